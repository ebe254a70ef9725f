#pragma once
#include <span>

#include "api/answer.h"
#include "api/generation_fields.h"
#include "text/chat_template.h"

namespace tessera::api {

// The body of a POST to /v1/chat/completions.
struct ChatCompletionFields {
  ChatRequest chat;  // the messages and chat_template_kwargs. Contents in parts are one text, a line each
  GenerationFields generation;
};

// Throws FieldError, naming the field, for what is not supported: pictures, sounds, tools.
ChatCompletionFields read_chat_completion(JsonObject body, int64_t vocab_size);

// The object chat.completion.
Json chat_completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage);

}  // namespace tessera::api

#pragma once
#include <memory>

#include "api/chat_completions.h"

namespace tessera::api {

// The body of a POST to /v1/responses as that of a chat: instructions and input are its messages, function_call and reasoning items parts
// of an assistant's. Nothing is kept, so what names an earlier response is refused, and store ignored. Tools of other types than function
// are left out, as are fields that it does not know. Throws FieldError, naming the field.
ChatCompletionFields read_response(JsonObject body, int64_t vocab_size);

// The object response, or its events. `header.id` is the response's, and its items' ids are made of it. Of the request's texts none are
// told again: instructions are null, and tools have names alone.
std::unique_ptr<AnswerWriter> responses_writer(AnswerHeader header, const ChatCompletionFields& fields);

}  // namespace tessera::api

#pragma once
#include <memory>

#include "api/chat_completions.h"

namespace tessera::api {

// The body of a POST to /v1/messages as that of a chat. Text that clients change with each request ahead of the system's, a block that
// begins with x-anthropic-billing-header:, is left out, as are tools of a type of their own and fields that it does not know. A last
// message of the assistant's is gone on with. Throws FieldError, naming the field.
ChatCompletionFields read_message_request(JsonObject body, int64_t vocab_size);
// The same of a POST to /v1/messages/count_tokens: what there is of `generation` is the model.
ChatCompletionFields read_count_tokens(JsonObject body);
Json token_count(int64_t prompt_tokens);

// The object message, or its events. `header.id` is the message's.
std::unique_ptr<AnswerWriter> messages_writer(AnswerHeader header, const GenerationFields& fields);

// {"type": "error", "error": {"type", "message"}}.
Json messages_error(const Failure& failure);

}  // namespace tessera::api

#pragma once
#include "api/answer_format.h"
#include "api/chat_completions.h"
#include "text/chat_template.h"

namespace tessera::api {

// What a chat's template is rendered with. All text is people's, names and results of tools included; where the template does not know
// tools, they and their calls are told in a text of ours. Throws FieldError where the template wants a call's arguments
// and they are no JSON object.
ChatRequest chat_request(const ChatCompletionFields& fields, const AnswerFormat& format = {});

}  // namespace tessera::api

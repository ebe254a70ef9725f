#pragma once
#include "api/chat_completions.h"
#include "text/chat_template.h"

namespace tessera::api {

// What a chat's template is rendered with. All text is people's, names and results of tools included.
ChatRequest chat_request(const ChatCompletionFields& fields);

}  // namespace tessera::api

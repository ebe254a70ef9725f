#pragma once
#include <vector>

#include "api/chat_completions.h"

namespace tessera::api {

// The field "messages". Throws FieldError.
std::vector<ChatMessage> read_messages(Fields& body);

}  // namespace tessera::api

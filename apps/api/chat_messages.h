#pragma once
#include <vector>

#include "api/chat_completions.h"

namespace tessera::api {

// The field "messages". Throws FieldError.
std::vector<ChatMessage> read_messages(Fields& body);

// The field "arguments" of a call: a JSON object's text. Some clients give the object itself. Throws FieldError.
std::string read_call_arguments(Fields& call);

}  // namespace tessera::api

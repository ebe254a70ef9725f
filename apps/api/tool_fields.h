#pragma once
#include "api/chat_completions.h"

namespace tessera::api {

// The fields "tools", "tool_choice" and "parallel_tool_calls". Throws FieldError.
Tools read_tools(Fields& body);

// Throws FieldError, of `param`, unless it is 1 to 128 letters, digits, '_', '-' or '.'.
void expect_tool_name(const std::string& name, const std::string& param);

}  // namespace tessera::api

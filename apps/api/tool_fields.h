#pragma once
#include <string>

#include "api/chat_completions.h"

namespace tessera::api {

// The fields "tools", "tool_choice" and "parallel_tool_calls". Throws FieldError.
Tools read_tools(Fields& body);

constexpr size_t kMostTools = 512;

// What the APIs' tools and choices of them have in common. Throw FieldError, of `param`, for a name that is not plain or stands twice;
// without tools that one is required of; where none has the name.
void add_tool(Tools& tools, ToolDefinition tool, const std::string& param);
void choose(Tools& tools, Tools::Choice choice, const std::string& param);
void choose_named(Tools& tools, std::string name, const std::string& param);

// Throws FieldError, of `param`, unless it is 1 to 128 letters, digits, '_', '-' or '.'.
void expect_tool_name(const std::string& name, const std::string& param);

}  // namespace tessera::api

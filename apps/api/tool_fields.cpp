#include "api/tool_fields.h"

#include <algorithm>

namespace tessera::api {
namespace {

constexpr size_t kMostTools = 512, kMostName = 128;

const ToolDefinition* find(const Tools& tools, const std::string& name) {
  const auto found = std::find_if(tools.definitions.begin(), tools.definitions.end(), [&](const auto& tool) { return tool.name == name; });
  return found == tools.definitions.end() ? nullptr : &*found;
}

ToolDefinition read_tool(Fields& tool) {
  expect(tool.text("type") == "function", tool.param("type"), "only tools of the type function are supported");
  Fields function(tool.needed_object("function"), tool.param("function") + ".");
  ToolDefinition definition{.name = function.needed_text("name"),
                            .description = function.text("description").value_or(""),
                            .parameters = "",
                            .strict = function.boolean("strict").value_or(false)};
  expect_tool_name(definition.name, function.param("name"));
  if (const auto parameters = function.object("parameters")) definition.parameters = simdjson::minify(*parameters);
  return definition;
}

void read_choice(Fields& body, Tools& tools) {
  const std::string param = body.param("tool_choice");
  const auto given = body.value("tool_choice");
  if (!given) return;
  const auto word = json_as<std::string_view>(*given);
  const bool is_object = json_as<JsonObject>(*given).has_value();
  expect(is_object || word == "none" || word == "auto" || word == "required", param,
         "must be none, auto, required or {\"type\": \"function\", \"function\": {\"name\"}}");
  if (word) {
    tools.choice = *word == "none" ? Tools::Choice::none : *word == "auto" ? Tools::Choice::automatic : Tools::Choice::required;
    expect(*word != "required" || !tools.definitions.empty(), param, "wants tools");
    return;
  }
  Fields choice(*json_as<JsonObject>(*given), param + ".");
  expect(choice.text("type") == "function", choice.param("type"), "must be function");
  Fields function(choice.needed_object("function"), choice.param("function") + ".");
  tools.choice = Tools::Choice::named;
  tools.name = function.needed_text("name");
  expect(find(tools, tools.name) != nullptr, function.param("name"), printable(tools.name), " is none of the tools");
}

}  // namespace

void expect_tool_name(const std::string& name, const std::string& param) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
  expect(plain && !name.empty() && name.size() <= kMostName, param, printable(name), " must be 1 to ", kMostName,
         " letters, digits, '_', '-' or '.'");
}

Tools read_tools(Fields& body) {
  Tools tools;
  for (Fields& tool : body.objects("tools", kMostTools)) {
    ToolDefinition definition = read_tool(tool);
    expect(find(tools, definition.name) == nullptr, tool.param("function.name"), printable(definition.name), " stands twice");
    tools.definitions.push_back(std::move(definition));
  }
  read_choice(body, tools);
  tools.parallel = body.boolean("parallel_tool_calls").value_or(true);
  return tools;
}

}  // namespace tessera::api

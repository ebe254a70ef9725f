#include "api/tool_fields.h"

#include <algorithm>
#include <utility>

namespace tessera::api {
namespace {

constexpr size_t kMostName = 128;

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
    choose(tools, *word == "none" ? Tools::Choice::none : *word == "auto" ? Tools::Choice::automatic : Tools::Choice::required, param);
    return;
  }
  Fields choice(*json_as<JsonObject>(*given), param + ".");
  expect(choice.text("type") == "function", choice.param("type"), "must be function");
  Fields function(choice.needed_object("function"), choice.param("function") + ".");
  choose_named(tools, function.needed_text("name"), function.param("name"));
}

}  // namespace

void expect_tool_name(const std::string& name, const std::string& param) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
  expect(plain && !name.empty() && name.size() <= kMostName, param, printable(name), " must be 1 to ", kMostName,
         " letters, digits, '_', '-' or '.'");
}

void add_tool(Tools& tools, ToolDefinition tool, const std::string& param) {
  expect_tool_name(tool.name, param);
  expect(find(tools, tool.name) == nullptr, param, printable(tool.name), " stands twice");
  tools.definitions.push_back(std::move(tool));
}

void choose(Tools& tools, Tools::Choice choice, const std::string& param) {
  expect(choice != Tools::Choice::required || !tools.definitions.empty(), param, "wants tools");
  tools.choice = choice;
}

void choose_named(Tools& tools, std::string name, const std::string& param) {
  expect(find(tools, name) != nullptr, param, printable(name), " is none of the tools");
  tools.choice = Tools::Choice::named;
  tools.name = std::move(name);
}

Tools read_tools(Fields& body) {
  Tools tools;
  for (Fields& tool : body.objects("tools", kMostTools)) add_tool(tools, read_tool(tool), tool.param("function.name"));
  read_choice(body, tools);
  tools.parallel = body.boolean("parallel_tool_calls").value_or(true);
  return tools;
}

}  // namespace tessera::api

#include "api/chat_messages.h"

#include <algorithm>
#include <array>

namespace tessera::api {
namespace {

constexpr size_t kMostMessages = 2048, kMostParts = 1024, kMostCalls = 256;

// A text, or parts of text, which are its lines; nullopt: it is not there.
std::optional<std::string> read_content(Fields& message) {
  const auto given = message.value("content");
  if (!given) return std::nullopt;
  if (const auto text = json_as<std::string_view>(*given)) return std::string(*text);
  expect(json_as<JsonArray>(*given).has_value(), message.param("content"), "must be a text or a list of parts");
  std::string all;
  bool first = true;
  for (Fields& part : message.objects("content", kMostParts)) {
    expect(part.text("type") == "text", part.param("type"), "only parts of the type text are supported");
    all += (first ? "" : "\n") + part.needed_text("text");
    first = false;
  }
  return all;
}

std::vector<ToolCall> read_tool_calls(Fields& message, const std::string& role) {
  std::vector<ToolCall> calls;
  for (Fields& call : message.objects("tool_calls", kMostCalls)) {
    expect(role == "assistant", message.param("tool_calls"), "stand in an assistant's messages only");
    expect(call.text("type").value_or("function") == "function", call.param("type"), "must be function");
    Fields function(call.needed_object("function"), call.param("function") + ".");
    calls.push_back({.id = call.text("id").value_or(""), .name = function.needed_text("name"), .arguments = read_call_arguments(function)});
  }
  return calls;
}

ChatMessage read_message(Fields& fields) {
  constexpr std::array kRoles{"system", "developer", "user", "assistant", "tool"};
  const auto role = fields.text("role");
  expect(role && std::find(kRoles.begin(), kRoles.end(), *role) != kRoles.end(), fields.param("role"),
         "must be system, developer, user, assistant or tool");
  ChatMessage message{.role = *role,
                      .content = read_content(fields),
                      .name = fields.text("name"),
                      .reasoning = fields.text("reasoning_content"),
                      .tool_calls = read_tool_calls(fields, *role),
                      .tool_call_id = fields.text("tool_call_id").value_or("")};
  if (const auto reasoning = fields.text("reasoning"); !message.reasoning) message.reasoning = reasoning;
  const bool may_lack = *role == "assistant" && (message.reasoning || !message.tool_calls.empty());
  expect(message.content || may_lack, fields.param("content"), "is not there");
  fields.expect_usual("audio", {});
  fields.expect_usual("function_call", {});
  return message;
}

}  // namespace

std::string read_call_arguments(Fields& function) {
  const std::string param = function.param("arguments");
  const auto given = function.value("arguments");
  if (!given) return "{}";
  if (const auto object = json_as<JsonObject>(*given)) return simdjson::minify(*object);
  const auto text = json_as<std::string_view>(*given);
  expect(text.has_value(), param, "must be the text of a JSON object");
  if (text->empty()) return "{}";
  try {
    const JsonDocument document = parse_json(*text, param);
    expect(json_as<JsonObject>(document.root()).has_value(), param, "must be the text of a JSON object");
  } catch (const FileError& error) {
    throw FieldError(param, error.what());
  }
  return std::string(*text);
}

std::vector<ChatMessage> read_messages(Fields& body) {
  std::vector<ChatMessage> messages;
  for (Fields& message : body.objects("messages", kMostMessages)) messages.push_back(read_message(message));
  expect(!messages.empty(), body.param("messages"), "must be a list of at least one message");
  return messages;
}

}  // namespace tessera::api

#include "api/chat_request.h"

#include <algorithm>
#include <utility>

#include "core/digest.h"
#include "core/error.h"
#include "text/jinja/json.h"

namespace tessera::api {
namespace {

using jinja::Value;
using Items = std::vector<std::pair<Value, Value>>;

Value person(std::string_view text) { return Value::text(text, jinja::Origin::person); }
Value dict(Items items) { return Value::dict(std::move(items), true); }

Value json_value(const std::string& text, const std::string& param) {
  try {
    return jinja::from_json(parse_json(text, param).root(), param);
  } catch (const FileError& error) {
    throw FieldError(param, error.what());
  }
}

// What a template asks for that takes no others.
std::string short_id(const std::string& id) {
  constexpr size_t kSize = 9;
  const bool fits = id.size() == kSize && std::all_of(id.begin(), id.end(), [](unsigned char c) { return c < 0x80 && std::isalnum(c); });
  return fits ? id : digest(id).substr(0, kSize);
}

Value tool_value(const ToolDefinition& tool, const std::string& param) {
  Items function{{person("name"), person(tool.name)}};
  if (!tool.description.empty()) function.emplace_back(person("description"), person(tool.description));
  if (!tool.parameters.empty()) function.emplace_back(person("parameters"), json_value(tool.parameters, param + ".parameters"));
  return dict({{person("type"), person("function")}, {person("function"), dict(std::move(function))}});
}

Value call_value(const ToolCall& call, const AnswerFormat& format, const std::string& param) {
  const std::string arguments = call.arguments.empty() ? "{}" : call.arguments;
  const Value read = json_value(arguments, param);
  expect(read.dict() != nullptr, param, "must be the text of a JSON object");
  return dict({{person("id"), person(format.short_call_ids ? short_id(call.id) : call.id)},
               {person("type"), person("function")},
               {person("function"),
                dict({{person("name"), person(call.name)}, {person("arguments"), format.arguments_are_text ? person(arguments) : read}})}});
}

Value message_value(const ChatMessage& message, const AnswerFormat& format, const std::string& param) {
  Items items{{person("role"), person(message.role)}, {person("content"), person(message.content.value_or(""))}};
  if (message.name) items.emplace_back(person("name"), person(*message.name));
  if (message.reasoning) items.emplace_back(person("reasoning_content"), person(*message.reasoning));
  if (!message.tool_calls.empty()) {
    std::vector<Value> calls;
    for (const ToolCall& call : message.tool_calls)
      calls.push_back(call_value(call, format, tessera::message(param, ".tool_calls[", calls.size(), "].function.arguments")));
    items.emplace_back(person("tool_calls"), Value::list(std::move(calls), true));
  }
  if (message.role == "tool")
    items.emplace_back(person("tool_call_id"), person(format.short_call_ids ? short_id(message.tool_call_id) : message.tool_call_id));
  return dict(std::move(items));
}

// A template without tools: calls and results as the text that they would be in an answer and its question.

std::string calls_text(const ChatMessage& message) {
  std::string text = message.content.value_or("");
  for (const ToolCall& call : message.tool_calls)
    text += tessera::message(text.empty() ? "" : "\n", kCallBegin, "\n{\"name\": ", dumped(call.name),
                             ", \"arguments\": ", call.arguments.empty() ? "{}" : call.arguments, "}\n", kCallEnd);
  return text;
}

std::string tools_text(const Tools& tools) {
  std::string text = "These functions can be called, each described by a line of JSON:\n<tools>\n";
  for (const ToolDefinition& tool : tools.definitions) {
    text += "{\"name\": " + dumped(tool.name);
    if (!tool.description.empty()) text += ", \"description\": " + dumped(tool.description);
    if (!tool.parameters.empty()) text += ", \"parameters\": " + tool.parameters;
    text += "}\n";
  }
  return text + message("</tools>\nTo call one, write its name and its arguments as JSON within these tags:\n", kCallBegin,
                        "\n{\"name\": NAME, \"arguments\": {...}}\n", kCallEnd,
                        "\nWhat it gives comes back within <tool_response></tool_response>.");
}

// Questions and answers only: results are a question, together with the one behind them, since many templates want turns.
std::vector<ChatMessage> without_tools(const std::vector<ChatMessage>& messages) {
  std::vector<ChatMessage> all;
  bool behind_result = false;
  for (const ChatMessage& message : messages) {
    const bool is_result = message.role == "tool";
    ChatMessage plain{
        .role = is_result ? "user" : message.role, .content = message.content, .name = message.name, .reasoning = message.reasoning};
    if (is_result) {
      plain.content = tessera::message("<tool_response>\n", message.content.value_or(""), "\n</tool_response>");
      plain.name.reset();
    }
    if (!message.tool_calls.empty()) plain.content = calls_text(message);
    if (behind_result && plain.role == "user") {
      *all.back().content += "\n" + plain.content.value_or("");
    } else {
      all.push_back(std::move(plain));
    }
    behind_result = is_result;
  }
  return all;
}

void add_tools(std::vector<ChatMessage>& messages, const Tools& tools, const AnswerFormat& format) {
  const std::string text = tools_text(tools);
  const auto first = std::find_if(messages.begin(), messages.end(),
                                  [&](const ChatMessage& message) { return message.role == (format.has_system ? "system" : "user"); });
  const bool is_first = first == messages.begin();
  if (format.has_system && !is_first) {
    messages.insert(messages.begin(), {.role = "system", .content = text});
  } else if (format.has_system) {
    *first->content += "\n\n" + text;
  } else if (first != messages.end()) {
    *first->content = text + "\n\n" + first->content.value_or("");
  }
}

}  // namespace

ChatRequest chat_request(const ChatCompletionFields& fields, const AnswerFormat& format) {
  const Tools& tools = fields.tools;
  const bool shown = tools.choice != Tools::Choice::none && !tools.definitions.empty();
  std::vector<ChatMessage> messages = format.tools_in_template ? fields.messages : without_tools(fields.messages);
  for (ChatMessage& message : messages)
    if (message.role == "developer" && !format.has_developer) message.role = "system";
  if (shown && !format.tools_in_template) add_tools(messages, tools, format);
  std::vector<Value> values, definitions;
  for (const ChatMessage& message : messages)
    values.push_back(message_value(message, format, tessera::message("messages[", values.size(), "]")));
  ChatRequest request{.messages = Value::list(std::move(values), true),
                      .arguments = fields.arguments,
                      .add_generation_prompt = fields.add_generation_prompt,
                      .continue_final_message = fields.continue_final_message};
  if (!shown || !format.tools_in_template) return request;
  for (const ToolDefinition& tool : tools.definitions)
    definitions.push_back(tool_value(tool, message("tools[", definitions.size(), "].function")));
  request.tools = Value::list(std::move(definitions), true);
  return request;
}

}  // namespace tessera::api

#include "api/answer_format.h"

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "text/jinja/json.h"

namespace tessera::api {
namespace {

using jinja::Value;
using Calls = AnswerFormat::Calls;

struct Pair {
  std::string_view begin, end;
};
constexpr std::array kThinking{Pair{"<think>", "</think>"}, Pair{"[THINK]", "[/THINK]"}};

std::string without_space(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text;
}

// What is looked for in the text of a probe.
constexpr std::string_view kQuestion = "probe_question", kTool = "probe_tool", kName = "probe_name", kResult = "probe_result",
                           kSystem = "probe_system", kArguments = R"({"probe_key": "probe_value"})";
constexpr std::string_view kTools =
    R"([{"type": "function", "function": {"name": "probe_tool", "description": "x", "parameters": {"type": "object", "properties": {}}}}])";

Value read(std::string_view json) { return jinja::from_json(parse_json(json, "probe").root(), "probe"); }

// What the template makes of messages; nothing where it refuses them.
std::optional<std::string> rendered(const ChatTemplate& chat, const std::string& messages, Value tools, bool prompt) {
  try {
    return chat.render({.messages = read(messages), .tools = std::move(tools), .add_generation_prompt = prompt}).bytes();
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
}

std::string said(std::string_view role, std::string_view content, std::string_view more = "") {
  return message(R"({"role": ")", role, R"(", "content": ")", content, '"', more, '}');
}

void find_thinking(const ChatTemplate& chat, const Tokenizer& tokenizer, AnswerFormat& format) {
  for (const Pair& pair : kThinking) {
    if (!chat.holds(pair.end) && !(tokenizer.token_to_id(pair.begin) && tokenizer.token_to_id(pair.end))) continue;
    format.think_begin = pair.begin;
    format.think_end = pair.end;
    return;
  }
}

// How the template writes a call, if it is a way that is known. `prompt`: what begins an answer.
std::optional<Calls> calls_in(const std::string& text, const std::string& prompt) {
  const size_t place = text.rfind(kName);
  if (place == std::string::npos || text.find(kTool) == std::string::npos || text.find(kResult, place) == std::string::npos)
    return std::nullopt;
  const std::string before = without_space(text.substr(0, place)), behind = without_space(text.substr(place + kName.size()));
  const std::string arguments = without_space(std::string(kArguments));
  const auto is = [&](const std::string& begin, const std::string& middle, const std::string& end) {
    return before.ends_with(begin) && behind.starts_with(middle + arguments + end);
  };
  const std::string mark(kCallsMark), named(kArgumentsMark), object = R"({"name":")", between = R"(","arguments":)";
  if (is(message(kCallBegin, object), between, message('}', kCallEnd))) return Calls::tagged;
  if (is(mark + "[" + object, between, "")) return Calls::list;
  if (is(without_space(prompt) + object, R"(","parameters":)", "}")) return Calls::object;
  const size_t id_end = behind.starts_with(kCallIdMark) ? behind.find(named) : 0;
  if (before.ends_with(mark) && id_end != std::string::npos && behind.substr(id_end).starts_with(named + arguments)) return Calls::named;
  return std::nullopt;
}

// Tries what templates ask for: arguments as a dict or as text, ids as clients have them or short ones.
void find_calls(const ChatTemplate& chat, AnswerFormat& format) {
  if (!chat.takes_tools()) return;
  const std::string question = said("user", kQuestion);
  std::string prompt = rendered(chat, "[" + question + "]", Value::none(), true).value_or("");
  const size_t answer = prompt.rfind(kQuestion);
  prompt = answer == std::string::npos ? "" : prompt.substr(answer + kQuestion.size());
  for (const bool are_text : {false, true}) {
    for (const bool are_short : {false, true}) {
      const std::string id = are_short ? "abcdefghi" : "call_0123456789abcdef01234567";
      const std::string arguments = are_text ? R"("{\"probe_key\": \"probe_value\"}")" : std::string(kArguments);
      const std::string calls = message(R"(, "tool_calls": [{"id": ")", id, R"(", "type": "function", "function": {"name": ")", kName,
                                        R"(", "arguments": )", arguments, "}}]");
      const auto shown = rendered(chat,
                                  message('[', question, ',', said("assistant", "", calls), ',',
                                          said("tool", kResult, message(R"(, "tool_call_id": ")", id, '"')), ']'),
                                  read(kTools), false);
      const auto found = shown ? calls_in(*shown, prompt) : std::nullopt;
      if (!found) continue;
      format.calls = *found;
      format.tools_in_template = true;
      format.arguments_are_text = are_text;
      format.short_call_ids = are_short;
      return;
    }
  }
}

}  // namespace

AnswerFormat find_answer_format(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  AnswerFormat format;
  find_thinking(chat, tokenizer, format);
  find_calls(chat, format);
  const auto system = rendered(chat, message('[', said("system", kSystem), ',', said("user", kQuestion), ']'), Value::none(), false);
  format.has_system = system && system->find(kSystem) != std::string::npos;
  const std::vector<std::string> roles = chat.roles();
  format.has_developer = std::find(roles.begin(), roles.end(), "developer") != roles.end();
  const auto add = [&](std::vector<AnswerFormat::Mark>& marks, std::string_view mark) {
    if (const auto id = tokenizer.token_to_id(mark); id && tokenizer.is_special(*id)) marks.push_back({std::string(mark), *id});
  };
  for (const std::string& mark : {format.think_begin, format.think_end}) add(format.think_marks, mark);
  for (const std::string_view mark : {kCallBegin, kCallEnd, kCallsMark, kArgumentsMark, kCallIdMark, kPythonTag})
    add(format.call_marks, mark);
  return format;
}

std::optional<TokenId> mark_id(const AnswerFormat& format, std::string_view mark) {
  for (const auto* marks : {&format.call_marks, &format.think_marks})
    for (const AnswerFormat::Mark& known : *marks)
      if (known.text == mark) return known.id;
  return std::nullopt;
}

std::vector<TokenId> mark_ids(const AnswerFormat& format) {
  std::vector<TokenId> ids;
  for (const auto* marks : {&format.call_marks, &format.think_marks})
    for (const AnswerFormat::Mark& mark : *marks) ids.push_back(mark.id);
  return ids;
}

Thinking thinking_behind(std::span<const TokenId> prompt, const AnswerFormat& format, const Tokenizer& tokenizer) {
  if (format.think_end.empty()) return Thinking::done;
  constexpr size_t kTail = 16;  // tokens: a mark and line breaks
  const std::string tail = tokenizer.decode(prompt.last(std::min(prompt.size(), kTail)), {});
  const std::string_view text = std::string_view(tail).substr(0, tail.find_last_not_of(" \n") + 1);
  return text.ends_with(format.think_begin) ? Thinking::begun : text.ends_with(format.think_end) ? Thinking::done : Thinking::may_begin;
}

}  // namespace tessera::api

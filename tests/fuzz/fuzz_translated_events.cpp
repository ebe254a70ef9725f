// What comes of an answer, divided by form feeds, each part behind a byte that tells what it is, as the events of /v1/responses and of
// /v1/messages. Each is one line of strict JSON whose type is its name, and what they tell in pieces is what they, and the body, tell
// whole.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "api/messages.h"
#include "api/responses.h"
#include "core/json.h"

namespace {

using namespace tessera;
using namespace tessera::api;

void expect_true(bool ok) {
  if (!ok) std::abort();
}

// The events' JSON.
std::vector<Json> parsed(std::string_view events) {
  constexpr std::string_view kName = "event: ", kData = "data: ";
  std::vector<Json> all;
  while (!events.empty()) {
    const size_t line = events.find('\n'), end = events.find("\n\n");
    expect_true(events.starts_with(kName) && end != std::string_view::npos && events.substr(line + 1).starts_with(kData));
    const std::string_view name = events.substr(kName.size(), line - kName.size());
    const std::string_view data = events.substr(line + 1 + kData.size(), end - line - 1 - kData.size());
    events.remove_prefix(end + 2);
    expect_true(data.find_first_of("\r\n") == std::string_view::npos);
    parse_json(data, "an event");
    all.push_back(Json::parse(data));
    expect_true(all.back()["type"] == name);
  }
  return all;
}

std::vector<AnswerDelta> deltas_of(std::string_view input) {
  std::vector<AnswerDelta> deltas;
  std::vector<std::string> parts{""};
  for (const char c : input) {
    if (c == '\f' && parts.size() < 32) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  size_t calls = 0;
  for (const std::string& part : parts) {
    AnswerDelta& delta = deltas.emplace_back();
    std::string text = part.empty() ? "" : part.substr(1);
    if (!simdjson::validate_utf8(text)) text = "\xEF\xBF\xBD";  // a reader's texts are UTF-8
    switch (part.empty() ? 0 : part[0] % 6) {
      case 0:
        delta.text = text;
        break;
      case 1:
        delta.reasoning = text;
        break;
      case 2:
        delta.calls.push_back({.index = calls++, .id = "c", .name = text, .arguments = ""});
        break;
      case 3:
        if (calls > 0 && !deltas[deltas.size() - 2].calls.empty())
          delta.calls.push_back({.index = calls - 1, .id = "", .name = "", .arguments = text});
        break;
      case 4:
        delta.reasoning = text;
        delta.text = text;
        break;
      default:
        delta.calls.push_back({.index = calls++, .id = "c", .name = "f", .arguments = text});
    }
  }
  return deltas;
}

void add(Choice& choice, const AnswerDelta& delta) {
  choice.text += delta.text;
  choice.reasoning += delta.reasoning;
  for (const AnswerDelta::Call& call : delta.calls) {
    if (call.index == choice.tool_calls.size()) choice.tool_calls.push_back({.id = call.id, .name = call.name, .arguments = ""});
    choice.tool_calls[call.index].arguments += call.arguments;
  }
}

// What the pieces of an API's events are, together.
struct Pieces {
  std::string text, reasoning, arguments;
};

void expect_same(const Pieces& pieces, const Choice& choice) {
  std::string arguments;
  for (const ToolCall& call : choice.tool_calls) arguments += call.arguments;
  expect_true(pieces.text == choice.text && pieces.reasoning == choice.reasoning && pieces.arguments == arguments);
}

void expect_response(const std::vector<Json>& events, const Choice& choice) {
  Pieces pieces, whole;
  for (size_t i = 0; i < events.size(); ++i) {
    expect_true(events[i]["sequence_number"] == i);
    const std::string type = events[i]["type"];
    if (type == "response.output_text.delta") pieces.text += events[i]["delta"];
    if (type == "response.reasoning_text.delta") pieces.reasoning += events[i]["delta"];
    if (type == "response.function_call_arguments.delta") pieces.arguments += events[i]["delta"];
  }
  const Json& response = events.back()["response"];
  for (const Json& item : response["output"]) {
    if (item["type"] == "message") whole.text += item["content"][0]["text"];
    if (item["type"] == "reasoning") whole.reasoning += item["content"][0]["text"];
    if (item["type"] == "function_call") whole.arguments += item["arguments"];
  }
  expect_same(pieces, choice);
  expect_same(whole, choice);
}

void expect_message(const std::vector<Json>& events, const Choice& choice) {
  Pieces pieces;
  size_t open = 0, closed = 0;
  for (const Json& event : events) {
    const std::string type = event["type"];
    if (type == "content_block_start") expect_true(event["index"] == open++ && open == closed + 1);
    if (type == "content_block_stop") expect_true(event["index"] == closed++ && open == closed);
    if (type != "content_block_delta") continue;
    expect_true(event["index"] == closed && open == closed + 1);
    const Json& delta = event["delta"];
    if (delta["type"] == "text_delta") pieces.text += delta["text"];
    if (delta["type"] == "thinking_delta") pieces.reasoning += delta["thinking"];
    if (delta["type"] == "input_json_delta") pieces.arguments += delta["partial_json"];
  }
  expect_true(open == closed && events.back()["type"] == "message_stop");
  expect_same(pieces, choice);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<AnswerDelta> deltas = deltas_of({reinterpret_cast<const char*>(data), size});
  const AnswerHeader header{.id = "resp_1", .model = "m", .created = 1};
  Choice choice;
  std::string responses, messages;
  const auto response = responses_writer(header, {}), message = messages_writer(header, {});
  for (const AnswerDelta& delta : deltas) {
    add(choice, delta);
    responses += response->events(delta, {});
    messages += message->events(delta, {});
  }
  const std::vector<Json> failed = parsed(response->error_events(failure(std::runtime_error(choice.text))));
  expect_true(failed.back()["response"]["status"] == "failed");
  expect_true(parsed(message->error_events(failure(std::runtime_error(choice.text)))).size() == 1);
  expect_response(parsed(responses + response->last_events({})), choice);
  expect_message(parsed(messages + message->last_events({})), choice);

  const Json body = responses_writer(header, {})->body({&choice, 1}, {});
  for (const Json& item : body["output"])
    if (item["type"] == "message") expect_true(item["content"][0]["text"] == choice.text);
  const Json said = messages_writer(header, {})->body({&choice, 1}, {});
  for (const Json& block : said["content"]) {
    if (block["type"] == "text") expect_true(block["text"] == choice.text);
    if (block["type"] == "tool_use") expect_true(block["input"].is_object());
  }
  return 0;
}

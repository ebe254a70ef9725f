// A model's words, divided by form feeds, as server-sent events: each is one line of JSON, and a client reads from it what was said.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "api/chat_completions.h"
#include "api/completions.h"
#include "core/json.h"

namespace {

using namespace tessera;
using namespace tessera::api;

void expect_true(bool ok) {
  if (!ok) std::abort();
}

bool is_utf8(const std::string& text) { return simdjson::validate_utf8(text); }

// The events' JSON, which is strict.
std::vector<JsonDocument> parsed(std::string_view events) {
  constexpr std::string_view kBegin = "data: ";
  std::vector<JsonDocument> all;
  while (!events.empty()) {
    const size_t end = events.find("\n\n");
    expect_true(events.starts_with(kBegin) && end != std::string_view::npos);
    const std::string_view data = events.substr(kBegin.size(), end - kBegin.size());
    events.remove_prefix(end + 2);
    expect_true(data.find_first_of("\r\n") == std::string_view::npos);
    for (const char* other : {"\xC2\x85", "\xE2\x80\xA8", "\xE2\x80\xA9"}) expect_true(data.find(other) == std::string_view::npos);
    if (data != "[DONE]") all.push_back(parse_json(data, "an event"));
  }
  return all;
}

// What was said is what is read; U+FFFD stands for what is no UTF-8.
template <class Found>
void expect_said(const Found& found, const std::string& said) {
  const auto text = json_as<std::string_view>(found);
  expect_true(text.has_value() ? (is_utf8(said) ? *text == said : text->find("\xEF\xBF\xBD") != std::string_view::npos) : said.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> parts{""};
  for (const char c : std::string_view(reinterpret_cast<const char*>(data), size)) {
    if (c == '\f') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  parts.resize(6);
  for (size_t token = 4; token < 6; ++token)  // a TokenText is UTF-8
    if (!is_utf8(parts[token])) parts[token] = "\xEF\xBF\xBD";
  const AnswerDelta delta{.choice = 0,
                          .text = parts[0],
                          .reasoning = parts[1],
                          .calls = {{.index = 0, .id = "call", .name = parts[2], .arguments = parts[3]}},
                          .tokens = {{.chosen = {parts[4], -1}, .top = {{parts[5], -2}, {parts[4], -1}}}},
                          .prompt_tokens = {{.chosen = {parts[4], -1, 5, 2}, .top = {{parts[5], -2, 6, 1}}}},
                          .ids = {},
                          .prompt_ids = {},
                          .finish_reason = "stop",
                          .stop_string = parts[5]};
  const AnswerHeader header{.id = parts[1], .model = parts[5], .created = 1};
  GenerationFields fields;
  fields.include_usage = true;
  const auto chat = chat_writer(header, fields), completion = completion_writer(header, fields);

  const std::vector<JsonDocument> chunks = parsed(chat->events(delta, {}) + chat->last_events({}));
  expect_true(chunks.size() == 2);
  expect_said(chunks[0].root()["model"], parts[5]);
  const auto choice = chunks[0].root()["choices"].at(0);
  expect_said(choice["delta"]["content"], parts[0]);
  expect_said(choice["delta"]["reasoning_content"], parts[1]);
  expect_said(choice["delta"]["tool_calls"].at(0)["function"]["name"], parts[2]);
  expect_said(choice["delta"]["tool_calls"].at(0)["function"]["arguments"], parts[3]);
  expect_said(choice["logprobs"]["content"].at(0)["token"], parts[4]);

  const std::vector<JsonDocument> texts = parsed(completion->events(delta, {}) + completion->last_events({}));
  expect_true(texts.size() == 2);
  expect_said(texts[0].root()["choices"].at(0)["text"], parts[0]);
  expect_said(texts[0].root()["choices"].at(0)["logprobs"]["tokens"].at(0), parts[4]);

  const std::vector<JsonDocument> errors = parsed(chat->error_events(failure(std::runtime_error(parts[0]))));
  expect_true(errors.size() == 1 && json_as<JsonObject>(errors[0].root()["error"]).has_value());
  return 0;
}

#include "api/chat_completions.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/json.h"

namespace tessera::api {
namespace {

constexpr size_t kMostMessages = 2048, kMostParts = 1024, kMostArguments = 64;
constexpr int64_t kMostTokens = int64_t{1} << 30, kMostTop = 20;

// A text, or parts of text, which are its lines.
std::string read_content(Fields& message) {
  const auto given = message.value("content");
  expect(given.has_value(), message.param("content"), "is not there");
  if (const auto text = json_as<std::string_view>(*given)) return std::string(*text);
  expect(json_as<JsonArray>(*given).has_value(), message.param("content"), "must be a text or a list of parts");
  std::string all;
  size_t index = 0;
  const JsonArray parts = *message.list("content", kMostParts);
  for (const JsonValue value : parts) {
    const std::string place = tessera::message(message.param("content"), '[', index, ']');
    const auto object = json_as<JsonObject>(value);
    expect(object.has_value(), place, "must be an object");
    Fields part(*object, place + ".");
    expect(part.text("type") == "text", part.param("type"), "only parts of the type text are supported");
    const auto text = part.text("text");
    expect(text.has_value(), part.param("text"), "is not there");
    part.expect_no_others();
    all += (index++ > 0 ? "\n" : "") + *text;
  }
  return all;
}

ChatMessage read_message(JsonValue value, const std::string& place) {
  constexpr std::array kRoles{"system", "developer", "user", "assistant"};
  const auto object = json_as<JsonObject>(value);
  expect(object.has_value(), place, "must be an object");
  Fields fields(*object, place + ".");
  const auto role = fields.text("role");
  expect(role && std::find(kRoles.begin(), kRoles.end(), *role) != kRoles.end(), fields.param("role"),
         "must be system, developer, user or assistant");
  ChatMessage message{
      .role = *role, .content = read_content(fields), .name = fields.text("name"), .reasoning = fields.text("reasoning_content")};
  fields.expect_no_others();
  return message;
}

std::vector<ChatMessage> read_messages(Fields& body) {
  const auto given = body.list("messages", kMostMessages);
  expect(given && given->size() > 0, body.param("messages"), "must be a list of at least one message");
  std::vector<ChatMessage> messages;
  for (const JsonValue value : *given) messages.push_back(read_message(value, message(body.param("messages"), '[', messages.size(), ']')));
  return messages;
}

ChatArguments read_arguments(Fields& body) {
  const auto given = body.object("chat_template_kwargs");
  if (!given) return {};
  const std::string param = body.param("chat_template_kwargs");
  expect(given->size() <= kMostArguments, param, "has ", given->size(), " entries; at most ", kMostArguments, " are taken");
  ChatArguments arguments;
  for (const auto field : *given) {
    expect(!json_as<JsonObject>(field.value) && !json_as<JsonArray>(field.value), param, printable(field.key),
           " must be a text, a number, true, false or null");
    arguments.emplace_back(std::string(field.key), jinja::from_json(field.value, param));
  }
  return arguments;
}

}  // namespace

ChatCompletionFields read_chat_completion(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  ChatCompletionFields fields{.messages = read_messages(body),
                              .arguments = read_arguments(body),
                              .tools = {},
                              .generation = read_generation_fields(body, vocab_size)};
  GenerationFields& generation = fields.generation;
  generation.max_tokens = body.integer("max_tokens", 1, kMostTokens);
  if (const auto most = body.integer("max_completion_tokens", 1, kMostTokens)) generation.max_tokens = most;
  const auto top = body.integer("top_logprobs", 0, kMostTop);
  if (body.boolean("logprobs").value_or(false)) generation.logprobs = top.value_or(0);
  expect(generation.logprobs || top.value_or(0) == 0, body.param("top_logprobs"), "wants logprobs to be true");
  body.expect_usual("tools", {"[]"});
  body.expect_usual("tool_choice", {"\"none\"", "\"auto\""});
  body.expect_usual("modalities", {"[\"text\"]"});
  body.ignore({"reasoning_effort", "verbosity", "parallel_tool_calls"});
  body.expect_no_others();
  return fields;
}

}  // namespace tessera::api

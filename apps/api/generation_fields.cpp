#include "api/generation_fields.h"

#include <charconv>
#include <limits>

namespace tessera::api {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30, kMostChoices = 8;
constexpr size_t kMostStops = 16, kMostStopBytes = 1024, kMostBiases = 1024, kMostSaltBytes = 1024;
constexpr double kMostBias = 100;

TokenId token_of(std::string_view text, int64_t vocab_size, const std::string& param) {
  TokenId id = -1;
  const char* const end = text.data() + text.size();
  const bool read = std::from_chars(text.data(), end, id) == std::from_chars_result{end, std::errc()};
  expect(read && id >= 0 && id < vocab_size, param, printable(text), " is no token id; the vocabulary has ", vocab_size, " tokens");
  return id;
}

std::unordered_map<TokenId, double> read_logit_bias(Fields& body, int64_t vocab_size) {
  const auto given = body.object("logit_bias");
  if (!given) return {};
  expect(given->size() <= kMostBiases, body.param("logit_bias"), "has ", given->size(), " entries; at most ", kMostBiases, " are taken");
  std::unordered_map<TokenId, double> biases;
  Fields fields(*given, body.param("logit_bias") + ".");
  for (const auto field : *given)
    if (const auto bias = fields.number(field.key, -kMostBias, kMostBias))
      biases[token_of(field.key, vocab_size, body.param("logit_bias"))] = *bias;
  return biases;
}

std::optional<std::vector<std::string>> read_stop(Fields& body) {
  const auto given = body.value("stop");
  if (!given) return std::nullopt;
  std::vector<std::string> stops;
  const auto add = [&](JsonValue value) {
    const auto text = json_as<std::string_view>(value);
    expect(text && !text->empty() && text->size() <= kMostStopBytes, body.param("stop"), "must be a text of 1 to ", kMostStopBytes,
           " bytes, or a list of such texts");
    stops.emplace_back(*text);
  };
  if (json_as<JsonArray>(*given)) {
    const JsonArray list = *body.list("stop", kMostStops);
    for (const JsonValue value : list) add(value);
  } else {
    add(*given);
  }
  return stops;
}

std::vector<TokenId> read_stop_token_ids(Fields& body, int64_t vocab_size) {
  std::vector<TokenId> ids;
  if (const auto given = body.list("stop_token_ids", kMostBiases))
    for (const JsonValue value : *given)
      ids.push_back(token_of(std::string(simdjson::minify(value)), vocab_size, body.param("stop_token_ids")));
  return ids;
}

}  // namespace

GenerationFields read_generation_fields(Fields& body, int64_t vocab_size) {
  GenerationFields fields{
      .model = body.text("model"),
      .temperature = body.number("temperature", 0, 100),
      .top_p = body.number("top_p", 0, 1),
      .min_p = body.number("min_p", 0, 1),
      .presence_penalty = body.number("presence_penalty", -2, 2),
      .frequency_penalty = body.number("frequency_penalty", -2, 2),
      .repetition_penalty = body.number("repetition_penalty", 0, 1e6),
      .top_k = body.integer("top_k", -1, kMostTokens),
      .min_tokens = body.integer("min_tokens", 0, kMostTokens),
      .ignore_eos = body.boolean("ignore_eos"),
      .logit_bias = read_logit_bias(body, vocab_size),
      .stop = read_stop(body),
      .stop_token_ids = read_stop_token_ids(body, vocab_size),
      .n = body.integer("n", 1, kMostChoices).value_or(1),
      .priority = static_cast<int>(body.integer("priority", std::numeric_limits<int>::min(), std::numeric_limits<int>::max()).value_or(0)),
      .cache_salt = body.text("cache_salt").value_or(""),
      .stream = body.boolean("stream").value_or(false)};
  if (fields.top_k == -1) fields.top_k = 0;
  if (const auto seed = body.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()))
    fields.seed = static_cast<uint64_t>(*seed);
  expect(fields.cache_salt.size() <= kMostSaltBytes, body.param("cache_salt"), "has ", fields.cache_salt.size(), " bytes; at most ",
         kMostSaltBytes, " are taken");
  if (const auto format = body.object("response_format"))
    expect(json_as<std::string_view>(format->at_key("type")) == "text", body.param("response_format"), "only the type text is supported");
  body.expect_usual("stream_options", {"{}"});
  body.ignore({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
               "prompt_cache_retention"});
  return fields;
}

void expect_room(int64_t prompt_tokens, std::optional<int64_t> max_tokens, int64_t context, const std::string& param) {
  const int64_t wanted = max_tokens.value_or(1);
  if (prompt_tokens <= context - std::min(wanted, context)) return;
  throw FieldError(param,
                   message(param, ": its ", prompt_tokens, " tokens and an answer of ", max_tokens ? "" : "at least ", wanted,
                           " are more than the context of ", context, "; shorten it", max_tokens ? " or ask for fewer" : ""),
                   "context_length_exceeded");
}

}  // namespace tessera::api

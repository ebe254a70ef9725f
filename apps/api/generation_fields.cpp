#include "api/generation_fields.h"

#include <charconv>
#include <limits>
#include <utility>

namespace tessera::api {
namespace {

constexpr int64_t kMostChoices = 8;
constexpr size_t kMostStops = 16, kMostStopBytes = 1024, kMostBiases = 1024, kMostSaltBytes = 1024, kMostTexts = 1000;
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

std::vector<TokenId> read_stop_token_ids(Fields& body, int64_t vocab_size) {
  std::vector<TokenId> ids;
  if (const auto given = body.list("stop_token_ids", kMostBiases))
    for (const JsonValue value : *given)
      ids.push_back(token_of(std::string(simdjson::minify(value)), vocab_size, body.param("stop_token_ids")));
  return ids;
}

std::string choices_text(JsonArray choices, const std::string& param) {
  expect(choices.size() > 0, param, "must be a list of at least one text");
  for (const JsonValue choice : choices) {
    const auto text = json_as<std::string_view>(choice);
    expect(text && !text->empty(), param, "must be a list of texts, none of them empty");
  }
  return simdjson::minify(choices);
}

std::optional<GrammarSource> read_response_format(Fields& body) {
  const auto given = body.object("response_format");
  if (!given) return std::nullopt;
  Fields format(*given, body.param("response_format") + ".");
  const std::string type = format.needed_text("type");
  if (type == "text") return std::nullopt;
  if (type == "json_object") return GrammarSource{};
  expect(type == "json_schema", format.param("type"), "must be text, json_object or json_schema");
  Fields schema(format.needed_object("json_schema"), format.param("json_schema") + ".");
  schema.text("name");
  return GrammarSource{.kind = GrammarSource::Kind::json_schema,
                       .text = simdjson::minify(schema.needed_object("schema")),
                       .strict = schema.boolean("strict").value_or(false)};
}

// vLLM's: one of its fields.
std::optional<GrammarSource> read_structured_outputs(Fields& body) {
  using Kind = GrammarSource::Kind;
  const auto given = body.object("structured_outputs");
  if (!given) return std::nullopt;
  const std::string param = body.param("structured_outputs");
  Fields fields(*given, param + ".");
  std::vector<GrammarSource> found;
  if (const auto json = fields.value("json")) {
    const auto text = json_as<std::string_view>(*json);
    expect(text || json_as<JsonObject>(*json), fields.param("json"), "must be a schema, or its text");
    found.push_back({.kind = Kind::json_schema, .text = text ? std::string(*text) : simdjson::minify(*json)});
  }
  if (fields.boolean("json_object").value_or(false)) found.emplace_back();
  if (auto regex = fields.text("regex")) found.push_back({.kind = Kind::regex, .text = *std::move(regex)});
  if (auto grammar = fields.text("grammar")) found.push_back({.kind = Kind::grammar, .text = *std::move(grammar)});
  if (const auto choice = fields.list("choice", kMostTexts))
    found.push_back({.kind = Kind::choice, .text = choices_text(*choice, fields.param("choice"))});
  fields.expect_no_others();
  expect(found.size() == 1, param, "must have one of json, json_object, regex, choice and grammar");
  return std::move(found.front());
}

void read_stream_options(Fields& body, GenerationFields& fields) {
  const auto given = body.object("stream_options");
  if (!given) return;
  expect(fields.stream, body.param("stream_options"), "wants stream to be true");
  Fields options(*given, body.param("stream_options") + ".");
  fields.include_usage = options.boolean("include_usage").value_or(false);
  fields.continuous_usage = options.boolean("continuous_usage_stats").value_or(false);
}

// What would change the answer, and is not there: OpenAI's, vLLM's and llama.cpp's.
void refuse_others(Fields& body) {
  for (const char* name : {"use_beam_search", "background", "return_tokens_as_token_ids"}) body.expect_usual(name, {"false"});
  for (const char* name : {"bad_words", "allowed_token_ids"}) body.expect_usual(name, {"[]"});
  for (const char* name : {"truncate_prompt_tokens", "logits_processors", "grammar", "json_schema", "guided_json", "guided_regex",
                           "guided_choice", "guided_grammar"})
    body.expect_usual(name, {});
}

}  // namespace

std::optional<std::vector<std::string>> read_stop(Fields& body, std::string_view name) {
  const auto given = body.value(name);
  if (!given) return std::nullopt;
  std::vector<std::string> stops;
  const auto add = [&](JsonValue value) {
    const auto text = json_as<std::string_view>(value);
    expect(text && !text->empty() && text->size() <= kMostStopBytes, body.param(name), "must be a text of 1 to ", kMostStopBytes,
           " bytes, or a list of such texts");
    stops.emplace_back(*text);
  };
  if (json_as<JsonArray>(*given)) {
    const JsonArray list = *body.list(name, kMostStops);
    for (const JsonValue value : list) add(value);
  } else {
    add(*given);
  }
  return stops;
}

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
      .stop = read_stop(body, "stop"),
      .stop_token_ids = read_stop_token_ids(body, vocab_size),
      .n = body.integer("n", 1, kMostChoices).value_or(1),
      .priority = static_cast<int>(body.integer("priority", std::numeric_limits<int>::min(), std::numeric_limits<int>::max()).value_or(0)),
      .cache_salt = body.text("cache_salt").value_or(""),
      .prompt_logprobs = body.integer("prompt_logprobs", 0, kMostTop),
      .format = read_response_format(body),
      .return_token_ids = body.boolean("return_token_ids").value_or(false),
      .include_stop = body.boolean("include_stop_str_in_output").value_or(false),
      .skip_special_tokens = body.boolean("skip_special_tokens").value_or(true),
      .stream = body.boolean("stream").value_or(false)};
  if (fields.top_k == -1) fields.top_k = 0;
  if (fields.format) fields.format_param = body.param("response_format");
  if (const auto seed = body.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()))
    fields.seed = static_cast<uint64_t>(*seed);
  expect(fields.cache_salt.size() <= kMostSaltBytes, body.param("cache_salt"), "has ", fields.cache_salt.size(), " bytes; at most ",
         kMostSaltBytes, " are taken");
  const auto best_of = body.integer("best_of", 1, kMostTokens);
  expect(best_of.value_or(fields.n) == fields.n, body.param("best_of"), "is not supported unless it is n; leave it out");
  if (auto format = read_structured_outputs(body)) {
    expect(!fields.format, body.param("structured_outputs"), "does not go with response_format; leave one of them out");
    fields.format = std::move(format);
    fields.format_param = body.param("structured_outputs");
  }
  read_stream_options(body, fields);
  refuse_others(body);
  return fields;
}

std::vector<TokenId> read_token_ids(JsonArray list, int64_t vocab_size, const std::string& param) {
  std::vector<TokenId> ids;
  for (const JsonValue value : list) {
    const auto id = json_as<int64_t>(value);
    expect(id && *id >= 0 && *id < vocab_size, param, "must hold token ids, 0 to ", vocab_size - 1);
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
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

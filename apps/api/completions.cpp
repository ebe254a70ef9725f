#include "api/completions.h"

#include <utility>

#include "text/utf8.h"

namespace tessera::api {
namespace {

constexpr size_t kMostPrompts = 128;

std::vector<TokenId> read_ids(JsonArray list, int64_t vocab_size, const std::string& param) {
  expect(list.size() > 0, param, "has no tokens");
  return read_token_ids(list, vocab_size, param);
}

// A text, ids, or a list of either.
std::vector<CompletionFields::Prompt> read_prompts(Fields& body, int64_t vocab_size) {
  const std::string param = body.param("prompt");
  const auto given = body.value("prompt");
  expect(given.has_value(), param, "is not there");
  if (const auto text = json_as<std::string_view>(*given)) return {std::string(*text)};
  const auto list = json_as<JsonArray>(*given);
  expect(list && list->size() > 0, param, "must be a text, a list of token ids, or a list of such");
  if (json_as<int64_t>(list->at(0))) return {read_ids(*list, vocab_size, param)};
  std::vector<CompletionFields::Prompt> prompts;
  const JsonArray several = *body.list("prompt", kMostPrompts);
  for (const JsonValue value : several) {
    const auto ids = json_as<JsonArray>(value);
    const auto text = json_as<std::string_view>(value);
    expect(ids || text, param, "must be a text, a list of token ids, or a list of such");
    if (ids) prompts.emplace_back(read_ids(*ids, vocab_size, param));
    if (text) prompts.emplace_back(std::string(*text));
  }
  return prompts;
}

}  // namespace

CompletionFields read_completion(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  CompletionFields fields{.prompts = read_prompts(body, vocab_size),
                          .echo = body.boolean("echo").value_or(false),
                          .add_special_tokens = body.boolean("add_special_tokens").value_or(true),
                          .generation = read_generation_fields(body, vocab_size)};
  fields.generation.max_tokens = body.integer("max_tokens", 0, kMostTokens);
  fields.generation.logprobs = body.integer("logprobs", 0, kMostTop);
  expect(body.text("suffix").value_or("").empty(), body.param("suffix"), "is not supported; leave it out");
  body.expect_usual("prompt_embeds", {});
  return fields;
}

}  // namespace tessera::api

#include "checkpoint/generation_config.h"

#include <string>

namespace tessera {
namespace {

constexpr size_t kMostEnds = 1000;

// The first of `readers` that sets `field`; nullptr: none.
const ConfigReader* setter(const std::vector<ConfigReader>& readers, std::string_view field) {
  for (const ConfigReader& reader : readers) {
    if (reader.is_set(field)) return &reader;
  }
  return nullptr;
}

std::optional<TokenId> read_token(const std::vector<ConfigReader>& readers, std::string_view field, std::optional<TokenId> absent,
                                  IntegerRange ids) {
  const ConfigReader* const reader = setter(readers, field);
  if (reader != nullptr) return static_cast<TokenId>(reader->integer(field, ids));
  return absent && *absent <= ids.max ? absent : std::nullopt;
}

std::vector<TokenId> read_ends(const std::vector<ConfigReader>& readers, const std::vector<TokenId>& absent, IntegerRange ids) {
  constexpr std::string_view kField = "eos_token_id";
  std::vector<TokenId> ends;
  if (const ConfigReader* const reader = setter(readers, kField)) {
    const std::vector<int64_t> given =
        reader->is_list(kField) ? reader->integers(kField, ids, kMostEnds) : std::vector{reader->integer(kField, ids)};
    for (const int64_t id : given) ends.push_back(static_cast<TokenId>(id));
  } else {
    for (const TokenId id : absent) {
      if (id <= ids.max) ends.push_back(id);
    }
  }
  return ends;
}

}  // namespace

GenerationConfig read_generation_config(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults,
                                        int64_t vocab_size) {
  std::vector<ConfigReader> readers;
  readers.push_back(file);
  readers.push_back(config);
  if (const std::optional<ConfigReader> text = config.object("text_config")) readers.push_back(*text);
  const IntegerRange ids{.min = 0, .max = vocab_size - 1};

  GenerationConfig result;
  result.tokens.eos = read_ends(readers, defaults.eos, ids);
  result.tokens.bos = read_token(readers, "bos_token_id", defaults.bos, ids);
  result.tokens.pad = read_token(readers, "pad_token_id", defaults.pad, ids);
  if (file.is_set("do_sample")) result.do_sample = file.boolean("do_sample");
  result.temperature = file.optional_number("temperature", {.min = 0.0, .max = 100.0}).value_or(result.temperature);
  result.top_k = file.optional_integer("top_k", {.min = 0, .max = INT32_MAX}).value_or(result.top_k);
  result.top_p = file.optional_number("top_p", {.above = 0.0, .max = 1.0}).value_or(result.top_p);
  result.min_p = file.optional_number("min_p", {.min = 0.0, .max = 1.0}).value_or(result.min_p);
  result.repetition_penalty = file.optional_number("repetition_penalty", {.above = 0.0, .max = 1e6}).value_or(result.repetition_penalty);
  return result;
}

}  // namespace tessera

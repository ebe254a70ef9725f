#include "checkpoint/generation_config.h"

#include <gtest/gtest.h>

#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;

constexpr int64_t kVocabSize = 1000;
const SpecialTokens kDefaults{.eos = {1}, .bos = 2, .pad = 0};

GenerationConfig read(const std::string& generation, const std::string& config = "{}", const SpecialTokens& defaults = kDefaults) {
  const JsonDocument file = parse_json(generation, "generation_config.json");
  const JsonDocument document = parse_json(config, "config.json");
  return read_generation_config(ConfigReader(file.root(), "generation_config.json"), ConfigReader(document.root(), "config.json"), defaults,
                                kVocabSize);
}

TEST(generation_config, unset_fields_have_transformers_defaults) {
  for (const std::string file : {"{}", R"({"temperature": null, "top_k": null, "top_p": null, "do_sample": null, "eos_token_id": null})"}) {
    const GenerationConfig config = read(file);
    EXPECT_EQ(config.tokens.eos, (std::vector<TokenId>{1}));
    EXPECT_EQ(config.tokens.bos, 2);
    EXPECT_EQ(config.tokens.pad, 0);
    EXPECT_FALSE(config.do_sample);
    EXPECT_EQ(config.temperature, 1.0);
    EXPECT_EQ(config.top_k, 50);
    EXPECT_EQ(config.top_p, 1.0);
    EXPECT_EQ(config.min_p, 0.0);
    EXPECT_EQ(config.repetition_penalty, 1.0);
  }
}

TEST(generation_config, reads_what_an_instruction_tuned_gemma_says) {
  const GenerationConfig config = read(
      R"({"bos_token_id": 2, "cache_implementation": "hybrid", "do_sample": true, "eos_token_id": [1, 106], "pad_token_id": 0, "top_k": 64, "top_p": 0.95})");
  EXPECT_EQ(config.tokens.eos, (std::vector<TokenId>{1, 106}));
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.temperature, 1.0);
  EXPECT_EQ(config.top_k, 64);
  EXPECT_EQ(config.top_p, 0.95);
}

TEST(generation_config, takes_tokens_from_the_first_file_that_sets_them) {
  const std::string config = R"({"eos_token_id": [5, 6], "text_config": {"eos_token_id": 7, "pad_token_id": 8}})";
  EXPECT_EQ(read(R"({"eos_token_id": 4})", config).tokens.eos, (std::vector<TokenId>{4}));
  EXPECT_EQ(read(R"({"eos_token_id": null})", config).tokens.eos, (std::vector<TokenId>{5, 6}));
  EXPECT_EQ(read("{}", config).tokens.eos, (std::vector<TokenId>{5, 6}));
  EXPECT_EQ(read("{}", config).tokens.pad, 8);
  EXPECT_EQ(read("{}", R"({"text_config": {"eos_token_id": 7}})").tokens.eos, (std::vector<TokenId>{7}));
  const SpecialTokens outside{.eos = {32000, 3}, .bos = 1, .pad = 32000};
  EXPECT_EQ(read("{}", "{}", outside).tokens.eos, (std::vector<TokenId>{3}));
  EXPECT_EQ(read("{}", "{}", outside).tokens.pad, std::nullopt);
}

TEST(generation_config, refuses_bad_values_beside_their_valid_neighbours) {
  struct Case {
    std::string field, valid, bad, error;
  };
  const std::vector<Case> cases = {
      {"eos_token_id", "999", "1000", "eos_token_id is 1000: must be an integer from 0 to 999"},
      {"eos_token_id", "[1, 999]", "[1, 1000]", "eos_token_id[1] is 1000: must be"},
      {"eos_token_id", "0", "-1", "eos_token_id is -1: must be"},
      {"eos_token_id", "1", "\"</s>\"", "eos_token_id is \"</s>\": must be"},
      {"eos_token_id", "[]", "{}", "eos_token_id is an object: must be"},
      {"bos_token_id", "2", "2.0", "bos_token_id is 2.0: must be"},
      {"pad_token_id", "999", "4294967296", "pad_token_id is 4294967296: must be"},
      {"do_sample", "true", "1", "do_sample is 1: must be true or false"},
      {"temperature", "0", "-1", "temperature is -1: must be"},
      {"temperature", "0.7", "\"hot\"", "temperature is \"hot\": must be"},
      {"temperature", "100", "1e308", "temperature is 1e+308: must be"},
      {"top_k", "0", "-5", "top_k is -5: must be"},
      {"top_k", "64", "64.5", "top_k is 64.5: must be"},
      {"top_p", "1", "1.1", "top_p is 1.1: must be"},
      {"top_p", "1e-9", "-0.1", "top_p is -0.1: must be"},
      {"min_p", "1.0", "2", "min_p is 2: must be"},
      {"repetition_penalty", "1.2", "0", "repetition_penalty is 0: must be"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(error_of([&] { read("{\"" + c.field + "\": " + c.valid + "}"); }), "") << c.field;
    const std::string error = error_of([&] { read("{\"" + c.field + "\": " + c.bad + "}"); });
    EXPECT_TRUE(holds(error, "generation_config.json: " + c.error));
  }
  EXPECT_TRUE(holds(error_of([] { read(R"({"temperature": NaN})"); }), "not valid JSON: "));
  EXPECT_TRUE(holds(error_of([] { read("[]"); }), "not an object"));
  EXPECT_TRUE(holds(error_of([] { read(R"({"top_k": 1, "top_k": 2})"); }), "\"top_k\" stands twice"));
}

}  // namespace
}  // namespace tessera

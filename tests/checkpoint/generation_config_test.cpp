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

TEST(generation_config, leaves_out_special_tokens_that_can_never_come) {
  const GenerationConfig config = read(R"({"eos_token_id": [-1, 999, 1000], "bos_token_id": -1, "pad_token_id": 4294967296})");
  EXPECT_EQ(config.tokens.eos, (std::vector<TokenId>{999}));
  EXPECT_EQ(config.tokens.bos, std::nullopt);
  EXPECT_EQ(config.tokens.pad, std::nullopt);
  ASSERT_EQ(config.notes.size(), 1u);
  EXPECT_TRUE(
      holds(config.notes[0], "generation_config.json: eos_token_id is a list of 3: what is outside the vocabulary of 1000 never comes"));
}

TEST(generation_config, keeps_what_processes_logits) {
  const ProcessorParams processors = read(R"({"sequence_bias": [[[3], 1.0], [[1, 2], -2.0], [[3], 4.0]], "bad_words_ids": [[5], [6, 7]],
    "no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": -2, "encoder_repetition_penalty": 1.5, "min_length": 4, "forced_bos_token_id": 8,
    "forced_eos_token_id": 9, "remove_invalid_values": true, "exponential_decay_length_penalty": [15, 1.6], "suppress_tokens": [-1, 10, 1000],
    "begin_suppress_tokens": [11], "top_h": 0.5, "typical_p": 1.5, "epsilon_cutoff": 0.25, "eta_cutoff": 1, "renormalize_logits": true})")
                                         .processors;
  const ProcessorParams expected{.sequence_bias = {{{1, 2}, -2.0}, {{3}, 4.0}},
                                 .encoder_repetition_penalty = 1.5,
                                 .no_repeat_ngram_size = 3,
                                 .bad_words_ids = {{5}, {6, 7}},
                                 .min_length = 4,
                                 .forced_bos_token_id = 8,
                                 .forced_eos_token_id = {9},
                                 .remove_invalid_values = true,
                                 .exponential_decay_length_penalty = std::pair<int64_t, double>(15, 1.6),
                                 .suppress_tokens = {10},
                                 .begin_suppress_tokens = {11},
                                 .top_h = 0.5,
                                 .epsilon_cutoff = 0.25,
                                 .renormalize_logits = true};
  EXPECT_EQ(processors, expected);
  EXPECT_EQ(read(R"({"min_length": 4, "min_new_tokens": 0})").processors, ProcessorParams());
}

TEST(generation_config, names_what_is_not_supported_and_what_is_not_known) {
  const GenerationConfig config = read(R"({"num_beams": 4, "guidance_scale": null, "token_healing": true, "top_q": 1, "_private": 2})");
  ASSERT_EQ(config.unsupported.size(), 2u);
  EXPECT_EQ(config.unsupported[0], "generation_config.json: num_beams is 4: there is no beam search");
  EXPECT_TRUE(holds(config.unsupported[1], "generation_config.json: token_healing is true: "));
  EXPECT_EQ(config.notes, (std::vector<std::string>{R"(generation_config.json: "top_q": not used: generate() knows no such field)"}));
}

TEST(generation_config, refuses_bad_values_beside_their_valid_neighbours) {
  struct Case {
    std::string field, valid, bad, error;
  };
  const std::vector<Case> cases = {
      {"eos_token_id", "1", "\"</s>\"", "eos_token_id is \"</s>\": must be"},
      {"eos_token_id", "[]", "{}", "eos_token_id is an object: must be"},
      {"bos_token_id", "2", "2.0", "bos_token_id is 2.0: must be"},
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
      {"max_new_tokens", "1", "0", "max_new_tokens is 0: must be"},
      {"min_new_tokens", "0", "-1", "min_new_tokens is -1: must be"},
      {"no_repeat_ngram_size", "-1", "1.5", "no_repeat_ngram_size is 1.5: must be"},
      {"suppress_tokens", "[-1, 5000]", "[0.5]", "suppress_tokens[0] is 0.5: must be"},
      {"bad_words_ids", "[[1, 2], [999]]", "[[1, 2], [1000]]", "bad_words_ids[1][0] is 1000: must be"},
      {"bad_words_ids", "[]", "[1]", "bad_words_ids[0] is 1: must be a list"},
      {"bad_words_ids", "[[1]]", "[[]]", "bad_words_ids is a list of 1: a word has no tokens"},
      {"sequence_bias", "[[[1, 2], -1.5]]", "[[[1, 2]]]", "sequence_bias[0] is a list of 1: must be a list of integers and a number"},
      {"sequence_bias", "[[[1], 2]]", "[[[-1], 2]]", "sequence_bias[0][0][0] is -1: must be"},
      {"sequence_bias", "[[[1], 2]]", "[[[1], \"2\"]]", "sequence_bias[0][1] is \"2\": must be a number"},
      {"sequence_bias", "[]", "{\"(1,)\": 2.0}", "sequence_bias is an object: must be a list"},
      {"forced_bos_token_id", "999", "1000", "forced_bos_token_id is 1000: must be"},
      {"forced_eos_token_id", "[1, 999]", "[1, 1000]", "forced_eos_token_id[1] is 1000: must be"},
      {"exponential_decay_length_penalty", "[15, 1.6]", "[15]", "exponential_decay_length_penalty is a list of 1: must be"},
      {"exponential_decay_length_penalty", "[15, 1.6]", "[1.5, 1.6]", "exponential_decay_length_penalty is a list of 2: must be"},
      {"stop_strings", "\"a\"", "[1]", "stop_strings[0] is 1: must be text"},
      {"stop_strings", "[]", "[\"a\", \"\"]", "stop_strings is a list of 2: a stop string is empty"},
      {"top_h", "1", "0", "top_h is 0: must be"},
      {"typical_p", "2", "0", "typical_p is 0: must be"},
      {"renormalize_logits", "true", "1", "renormalize_logits is 1: must be true or false"},
      {"num_beams", "1", "\"4\"", "num_beams is \"4\": must be a number"},
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

// The few largest logits of a row, and tokens chosen from them.
#include "ops/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "generate/sampler.h"
#include "thinned.h"

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Logits of few different values, so that many are equal.
std::vector<float> coarse_logits(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(random() % 40) / 8.0f - 3.0f;
  return logits;
}

// A row's ids, the largest logit's first and the lowest id's of equal ones.
std::vector<TokenId> sorted_ids(std::span<const float> row) {
  std::vector<TokenId> ids(row.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
  return ids;
}

TEST(selection, finds_what_sorting_whole_rows_finds) {
  const int64_t vocab = 33333, rows = 5;
  const std::vector<float> logits = coarse_logits(static_cast<size_t>(vocab * rows), 1);
  const std::vector<TokenId> best = argmax(logits, vocab);
  for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{33}, int64_t{65}, int64_t{256}, int64_t{300}, vocab}) {
    const TopK found = topk(logits, vocab, k);
    ASSERT_EQ(found.ids.size(), static_cast<size_t>(rows * k));
    for (int64_t row = 0; row < rows; ++row) {
      const auto values = std::span(logits).subspan(static_cast<size_t>(row * vocab), static_cast<size_t>(vocab));
      const std::vector<TokenId> expected = sorted_ids(values);
      EXPECT_EQ(best[static_cast<size_t>(row)], expected.front());
      for (int64_t i = 0; i < k; ++i) {
        const auto at = static_cast<size_t>(row * k + i);
        EXPECT_EQ(found.ids[at], expected[static_cast<size_t>(i)]);
        EXPECT_EQ(found.values[at], values[static_cast<size_t>(found.ids[at])]);
      }
    }
  }
}

TEST(selection, refuses_logits_that_are_no_numbers) {
  for (const float wrong : {kInfinity, std::numeric_limits<float>::quiet_NaN()})
    for (const size_t place : {size_t{0}, size_t{7}}) {
      std::vector<float> logits = coarse_logits(8, 2);
      logits[place] = wrong;
      EXPECT_THROW(argmax(logits, 8), std::runtime_error);
      EXPECT_THROW(topk(logits, 8, 3), std::runtime_error);
    }
  const std::vector<float> none(8, -kInfinity);
  EXPECT_THROW(argmax(none, 8), std::runtime_error);
  EXPECT_THROW(topk(none, 8, 3), std::runtime_error);
}

TEST(selection, the_few_largest_choose_what_all_choose_or_say_that_a_tie_hides_others) {
  const std::vector<TokenId> tokens{1, 2, 3};
  int chosen = 0, hidden = 0;
  for (uint32_t seed = 0; seed < 50; ++seed)
    for (const int64_t top_k : {1, 4, 20, 64, 255}) {
      std::vector<float> logits = coarse_logits(400, seed);
      if (seed % 2 == 0)
        for (size_t i = 0; i < logits.size(); ++i) logits[i] += 3e-4f * static_cast<float>((i * 97) % 400);  // no two are equal
      Sampler sampler({.temperature = 0.8, .top_k = top_k, .top_p = 0.9, .min_p = 0.01, .seed = seed}, {});
      ASSERT_EQ(sampler.enough(0), top_k + 1);
      const auto token = sampler.sample(topk(logits, 400, top_k + 1), tokens.size(), 1, 2);
      ++(token ? chosen : hidden);
      if (token) {
        EXPECT_EQ(*token, sampler.sample(logits, tokens, 1, 2));
      }
    }
  EXPECT_GE(chosen, 100);
  EXPECT_GE(hidden, 20);
}

// What may come: of one token to all of them.
struct Mask {
  std::vector<int32_t> bits;
  size_t count = 0;

  Mask(size_t vocab, size_t one_in, uint32_t seed) : bits((vocab + 31) / 32) {
    std::mt19937 random(seed);
    for (size_t i = 0; i < vocab; ++i)
      if (i == seed % vocab || (one_in > 0 && random() % one_in == 0)) {
        bits[i / 32] |= static_cast<int32_t>(uint32_t{1} << (i % 32));
        ++count;
      }
  }
  bool has(size_t token) const { return ((static_cast<uint32_t>(bits[token / 32]) >> (token % 32)) & 1) != 0; }
};

TEST(selection, with_tokens_that_may_not_come_the_largest_choose_what_a_row_without_them_chooses) {
  constexpr size_t kVocab = 40'000;
  const std::vector<TokenId> tokens{1, 2, 3, 4};
  const std::vector<TokenId> ends{7, 500, 999};
  std::map<std::string, int> chosen, hidden;
  for (uint32_t seed = 0; seed < 12; seed += kSanitizerBuild ? 5 : 1)
    for (const size_t one_in : {0, 1, 2, 30, 200})        // 0: one token alone
      for (const int64_t top_k : {0, 1, 4, 20, 64, 200})  // 0: greedy
        for (const bool constrained : {false, true})
          for (const bool barred : {false, true}) {
            if (!constrained && one_in != 1) continue;
            std::vector<float> logits = coarse_logits(kVocab, seed);
            if (seed % 4 != 0)
              for (size_t i = 0; i < kVocab; ++i) logits[i] += 1e-4f * static_cast<float>((i * 97) % kVocab);  // no two are equal
            if (seed % 2 == 0)
              for (const TokenId end : ends) logits[static_cast<size_t>(end)] += 10;
            const Mask mask(kVocab, one_in, seed);
            const AllowedTokens allowed = constrained ? AllowedTokens(mask.bits) : AllowedTokens();
            std::vector<float> left = logits;
            for (size_t i = 0; i < kVocab; ++i)
              if ((constrained && !mask.has(i)) || (barred && std::ranges::count(ends, static_cast<TokenId>(i)) > 0)) left[i] = -kInfinity;
            SamplingParams params{.temperature = top_k == 0 ? 0 : 0.8, .top_k = top_k, .top_p = 0.9, .min_p = 0.01, .seed = seed};
            Sampler plain(params, {});
            params.ignore_eos = seed % 3 == 0 && barred;
            params.min_new_tokens = barred ? 3 : 2;
            Sampler sampler(params, ends);
            const std::string what =
                message("one in ", one_in, ", top_k ", top_k, constrained ? ", constrained" : "", barred ? ", barred" : "");
            SCOPED_TRACE(message(what, ", seed ", seed));
            const int64_t enough = sampler.enough(2, allowed);
            ASSERT_EQ(enough == 1, top_k == 0 && !constrained && !barred);
            ASSERT_LE(enough, 256);
            if (std::ranges::all_of(left, [](float logit) { return logit == -kInfinity; })) {
              EXPECT_THROW(sampler.sample(logits, tokens, 2, 2, allowed), std::runtime_error);
              EXPECT_EQ(sampler.forced(2, allowed), std::nullopt);
              continue;
            }
            const TokenId expected = plain.sample(left, tokens, 2, 2);
            EXPECT_EQ(sampler.sample(logits, tokens, 2, 2, allowed), expected);
            const auto forced = sampler.forced(2, allowed);
            EXPECT_EQ(forced.value_or(expected), expected);
            EXPECT_EQ(forced.has_value(), constrained && mask.count == 1);
            EXPECT_EQ(enough == -1, forced.has_value());
            if (enough < 2) continue;
            const auto token = sampler.sample(topk(logits, kVocab, enough), tokens.size(), 2, 2, allowed);
            ++(token ? chosen : hidden)[constrained ? what : barred ? "barred" : "all"];
            if (token) {
              EXPECT_EQ(*token, expected);
            }
          }
  if (kSanitizerBuild) return;  // there are too few there
  EXPECT_GE(chosen["barred"], 30);
  EXPECT_GE(hidden["barred"], 5);
  for (const char* often : {"one in 1, top_k 0, constrained", "one in 2, top_k 0, constrained, barred", "one in 30, top_k 0, constrained",
                            "one in 2, top_k 20, constrained", "one in 2, top_k 64, constrained, barred"})
    EXPECT_GE(chosen[often], 6) << often;
  EXPECT_GE(hidden["one in 30, top_k 20, constrained"], 6) << "too few of the largest may come";
}

TEST(selection, what_is_forced_or_made_a_number_may_still_have_to_be_allowed) {
  const std::vector<float> logits{3, std::numeric_limits<float>::quiet_NaN(), 2, 1};
  const std::vector<int32_t> bits{0b1100};
  Sampler mended({.temperature = 0, .processors = {.remove_invalid_values = true}}, {});
  EXPECT_EQ(mended.sample(logits, std::vector<TokenId>{0}, 1, 0, AllowedTokens(bits)), 2);
  Sampler forces({.temperature = 0, .processors = {.forced_bos_token_id = 0}}, {});
  const std::vector<float> numbers{3, 5, 2, 1};
  EXPECT_EQ(forces.sample(numbers, std::vector<TokenId>{0}, 1, 0), 0);
  EXPECT_THROW(forces.sample(numbers, std::vector<TokenId>{0}, 1, 0, AllowedTokens(bits)), std::runtime_error);
  Sampler biased({.temperature = 0, .logit_bias = {{0, 1e300 * 1e300}, {3, 5.0}}}, {});
  EXPECT_EQ(biased.sample(numbers, std::vector<TokenId>{0}, 1, 0, AllowedTokens(bits)), 3);
}

TEST(selection, end_tokens_that_are_barred_cost_as_many_logits_more) {
  EXPECT_EQ(Sampler({.temperature = 0, .ignore_eos = true}, {1, 2, 2}).enough(9), 4);
  EXPECT_EQ(Sampler({.top_k = 64, .ignore_eos = true}, {1}).enough(9), 66);
  EXPECT_EQ(Sampler({.top_k = 255, .ignore_eos = true}, {1}).enough(9), 0);
  const Sampler waits({.temperature = 0, .min_new_tokens = 4}, {1});
  EXPECT_EQ(waits.enough(3), 3);
  EXPECT_EQ(waits.enough(4), 1);
}

TEST(selection, all_logits_are_needed_where_more_than_the_largest_count) {
  EXPECT_EQ(Sampler({.temperature = 0}, {}).enough(0), 1);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 255}, {}).enough(0), 256);
  for (const SamplingParams& params : std::vector<SamplingParams>{{.temperature = 1},
                                                                  {.temperature = 1, .top_k = 256},
                                                                  {.temperature = 0, .repetition_penalty = 1.1},
                                                                  {.temperature = 0, .presence_penalty = 0.1},
                                                                  {.temperature = 0, .frequency_penalty = -0.1},
                                                                  {.temperature = 0, .logit_bias = {{3, 1.0}}}})
    EXPECT_EQ(Sampler(params, {1}).enough(9), 0);
}

TEST(selection, what_a_card_found_is_refused_when_it_is_no_number) {
  const Sampler sampler({.temperature = 1, .top_k = 1}, {});
  EXPECT_THROW(sampler.sample(TopK{2, {4, 5}, {kInfinity, 1.0f}}, 3, 1), std::runtime_error);
}

}  // namespace
}  // namespace tessera

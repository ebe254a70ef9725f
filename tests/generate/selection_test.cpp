// The few largest logits of a row, and tokens chosen from them.
#include "ops/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "generate/sampler.h"

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
      const auto token = sampler.sample(topk(logits, 400, top_k + 1), tokens.size(), 2);
      ++(token ? chosen : hidden);
      if (token) {
        EXPECT_EQ(*token, sampler.sample(logits, tokens, 1, 2));
      }
    }
  EXPECT_GE(chosen, 100);
  EXPECT_GE(hidden, 20);
}

TEST(selection, all_logits_are_needed_where_more_than_the_largest_count) {
  EXPECT_EQ(Sampler({.temperature = 0}, {}).enough(0), 1);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 255}, {}).enough(0), 256);
  for (const SamplingParams& params : std::vector<SamplingParams>{{.temperature = 1},
                                                                  {.temperature = 1, .top_k = 256},
                                                                  {.temperature = 0, .repetition_penalty = 1.1},
                                                                  {.temperature = 0, .presence_penalty = 0.1},
                                                                  {.temperature = 0, .frequency_penalty = -0.1},
                                                                  {.temperature = 0, .logit_bias = {{3, 1.0}}},
                                                                  {.temperature = 0, .ignore_eos = true}})
    EXPECT_EQ(Sampler(params, {1}).enough(9), 0);
  const Sampler waits({.temperature = 0, .min_new_tokens = 4}, {1});
  EXPECT_EQ(waits.enough(3), 0);
  EXPECT_EQ(waits.enough(4), 1);
}

TEST(selection, what_a_card_found_is_refused_when_it_is_no_number) {
  const Sampler sampler({.temperature = 1, .top_k = 1}, {});
  EXPECT_THROW(sampler.sample(TopK{2, {4, 5}, {kInfinity, 1.0f}}, 3), std::runtime_error);
}

}  // namespace
}  // namespace tessera

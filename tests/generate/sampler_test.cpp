#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>

#include "generate/random.h"

namespace tessera {
namespace {

const std::vector<float> kLogits{1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 0.5f};
const std::vector<TokenId> kPrompt{0, 1};

std::vector<TokenId> candidate_tokens(const SamplingParams& params, const std::vector<float>& logits = kLogits) {
  std::vector<TokenId> tokens;
  for (const TokenProbability& c : Sampler(params, {}).candidates(logits, kPrompt, kPrompt.size())) tokens.push_back(c.token);
  return tokens;
}

TEST(sampler, greedy_takes_the_first_of_the_largest) { EXPECT_EQ(Sampler({.temperature = 0}, {}).sample(kLogits, kPrompt, 2), 1); }

TEST(sampler, top_k_keeps_ties_with_the_kth) {
  EXPECT_EQ(candidate_tokens({.top_k = 1}), (std::vector<TokenId>{1, 3}));
  EXPECT_EQ(candidate_tokens({.top_k = 3}), (std::vector<TokenId>{1, 3, 2}));
  EXPECT_EQ(candidate_tokens({.top_k = 100}).size(), 6u);
}

TEST(sampler, top_p_keeps_the_smallest_set_that_reaches_p) {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(candidate_tokens({.top_p = 0.4}, logits), (std::vector<TokenId>{0}));
  EXPECT_EQ(candidate_tokens({.top_p = 0.6}, logits), (std::vector<TokenId>{0, 1}));
  EXPECT_EQ(candidate_tokens({.top_p = 0.9}, logits), (std::vector<TokenId>{0, 1, 2}));
  EXPECT_EQ(candidate_tokens({.top_p = 1e-9}, logits), (std::vector<TokenId>{0}));
}

TEST(sampler, min_p_is_relative_to_the_most_probable) {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(candidate_tokens({.min_p = 0.5}, logits), (std::vector<TokenId>{0, 1}));
  EXPECT_EQ(candidate_tokens({.min_p = 1.0}, logits), (std::vector<TokenId>{0}));
}

// A row of one of seven shapes. The last has half its weight in tokens that are exp(12) times less probable than the first, or still less.
std::vector<float> shaped_row(int shape, size_t width, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> logits(width);
  for (float& logit : logits) {
    const float x = normal(random);
    logit = shape == 0   ? 3 * x
            : shape == 1 ? 0.01f * x
            : shape == 2 ? 1.25f
            : shape == 3 ? std::round(8 * x)
            : shape == 6 ? std::round(2 * x) / 4
                         : 6 * x;
    if (shape == 5 && random() % 3 == 0) logit = -std::numeric_limits<float>::infinity();
  }
  if (shape == 4)
    for (float peak : {40.0f, 39.5f, 30.0f}) logits[random() % width] = peak;
  if (shape >= 5) logits[random() % width] = shape == 5 ? 2.0f : 12.0f;
  return logits;
}

// What top_p and min_p leave of a row that is sorted as a whole, in float64.
struct SortedRow {
  SortedRow(const std::vector<float>& logits, double temperature) {
    for (size_t i = 0; i < logits.size(); ++i)
      if (!std::isinf(logits[i])) order.push_back(static_cast<TokenId>(i));
    const auto logit = [&](TokenId id) { return logits[static_cast<size_t>(id)]; };
    std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return logit(a) > logit(b); });
    for (const TokenId id : order)
      weights.push_back(std::exp((static_cast<double>(logit(id)) - static_cast<double>(logit(order[0]))) / temperature));
    while (weights.back() == 0) weights.pop_back();
    behind.resize(weights.size() + 1);
    for (size_t i = weights.size(); i-- > 0;) behind[i] = behind[i + 1] + weights[i];
  }

  size_t kept(double cut, double min_p) const {
    size_t count = weights.size();
    while (count > 1 && (behind[count - 1] <= cut * behind[0] || weights[count - 1] < min_p)) --count;
    return count;
  }

  size_t drawn(double uniform, size_t count) const {
    double left = uniform * (behind[0] - behind[count]);
    for (size_t i = 0; i + 1 < count; ++i)
      if ((left -= weights[i]) < 0) return i;
    return count - 1;
  }

  std::vector<TokenId> order;
  std::vector<double> weights, behind;  // behind: the weights of this and of those after it
};

// A sum of weights may be off by 1e-8, and then another token is the last or is drawn.
TEST(sampler, chooses_among_all_tokens_as_sorting_them_does) {
  constexpr double kOff = 1e-8;
  std::mt19937 random(3);
  int draws = 0, others = 0;
  for (const auto& [width, rows] : {std::pair{1, 200}, {2, 500}, {31, 500}, {300, 1500}, {32064, 28}, {262144, 7}})
    for (int row = 0; row < rows; ++row) {
      const int shape = row % 7;
      const std::vector<float> logits = shaped_row(shape, static_cast<size_t>(width), random);
      const double temperature = shape == 6 ? 1.0 : std::array{1.0, 0.01, 0.3, 1.7, 10.0, 1e-300, 100.0}[random() % 7];
      const SortedRow sorted(logits, temperature);
      const double top_p = std::array{1.0, 0.9513, 1e-9, 0.5007, 0.99931, 1 - 1e-7, 1 - 1e-13}[random() % 7];
      const double min_p = std::array{0.0, 0.0, 0.0501, 1e-3, 1e-9, 1e-30, 1.0}[random() % 7];
      Sampler sampler({.temperature = temperature, .top_p = top_p, .min_p = min_p, .seed = random()}, {});
      const Candidates kept = sampler.candidates(logits, kPrompt, 2);
      const auto within = [&](size_t low, size_t value, size_t high) { return low <= value && value <= high; };
      ASSERT_TRUE(within(sorted.kept((1 - top_p) * (1 + kOff), min_p), kept.size(), sorted.kept((1 - top_p) * (1 - kOff), min_p)))
          << width << " of shape " << shape << ", temperature " << temperature << ", top_p " << top_p << ", min_p " << min_p << ": "
          << kept.size() << " are kept, not " << sorted.kept(1 - top_p, min_p);
      const double sum = sorted.behind[0] - sorted.behind[kept.size()];
      for (size_t i = 0; i < kept.size(); ++i) {
        ASSERT_EQ(kept[i].token, sorted.order[i]);
        ASSERT_NEAR(kept[i].probability * sum / sorted.weights[i], 1.0, 1e-9);
      }
      for (uint64_t i = 0; i < 20; ++i) {
        const TokenId token = sampler.sample(logits, kPrompt, 2, i);
        const double u = uniform(sampler.params().seed, i, 2);
        const size_t low = sorted.drawn(u - kOff, kept.size()), high = sorted.drawn(u + kOff, kept.size());
        const auto first = sorted.order.begin() + static_cast<std::ptrdiff_t>(low),
                   last = sorted.order.begin() + static_cast<std::ptrdiff_t>(high);
        ASSERT_NE(std::find(first, last + 1, token), last + 1) << width << " of shape " << shape << ", draw " << u;
        ++draws;
        others += token != sorted.order[sorted.drawn(u, kept.size())] ? 1 : 0;
      }
    }
  EXPECT_LE(others, draws / 1000);
}

TEST(sampler, candidates_sum_to_one_and_follow_temperature) {
  const auto kept = Sampler({.temperature = 2.0, .top_k = 3}, {}).candidates(kLogits, kPrompt, 2);
  const double sum = std::accumulate(kept.begin(), kept.end(), 0.0, [](double s, const TokenProbability& c) { return s + c.probability; });
  EXPECT_NEAR(sum, 1.0, 1e-12);
  EXPECT_NEAR(kept[0].probability / kept[2].probability, std::exp(0.5), 1e-9);
}

TEST(sampler, draws_follow_the_probabilities_within_five_sigma) {
  Sampler sampler({.temperature = 0.7, .top_k = 4, .top_p = 0.95, .seed = 11}, {});
  const auto kept = sampler.candidates(kLogits, kPrompt, 2);
  std::map<TokenId, int> count;
  const int draws = 20000;
  for (int i = 0; i < draws; ++i) ++count[sampler.sample(kLogits, kPrompt, 2, static_cast<uint64_t>(i))];
  for (const TokenProbability& c : kept)
    EXPECT_NEAR(count[c.token], draws * c.probability, 5 * std::sqrt(draws * c.probability * (1 - c.probability))) << c.token;
}

TEST(sampler, penalties_move_only_what_was_seen) {
  const std::vector<TokenId> tokens{1, 4, 3, 3};  // prompt {1, 4}, output {3, 3}
  const auto top = [&](SamplingParams params) {
    params.temperature = 0;
    return Sampler(params, {}).sample(kLogits, tokens, 2);
  };
  EXPECT_EQ(top({}), 1);
  EXPECT_EQ(top({.repetition_penalty = 2.0}), 2);  // 1 and 3 halve, 2 stays
  EXPECT_EQ(top({.frequency_penalty = 0.5}), 1);   // the prompt does not count
  EXPECT_EQ(top({.logit_bias = {{1, -5.0}}}), 3);
  EXPECT_EQ(top({.presence_penalty = 1.5, .logit_bias = {{1, -5.0}}}), 2);   // 3 falls to 1.5
  EXPECT_EQ(top({.frequency_penalty = 0.4, .logit_bias = {{1, -5.0}}}), 3);  // 3 falls to 2.2
  EXPECT_EQ(top({.frequency_penalty = 0.6, .logit_bias = {{1, -5.0}}}), 2);  // 3 falls to 1.8
}

TEST(sampler, end_tokens_wait_for_min_new_tokens) {
  const std::vector<TokenId> tokens{0, 5};
  EXPECT_EQ(Sampler({.temperature = 0, .min_new_tokens = 2}, {1, 3}).sample(kLogits, tokens, 1), 2);
  EXPECT_EQ(Sampler({.temperature = 0, .min_new_tokens = 1}, {1, 3}).sample(kLogits, tokens, 1), 1);
  EXPECT_EQ(Sampler({.temperature = 0, .ignore_eos = true}, {1, 3}).sample(kLogits, tokens, 1), 2);
}

TEST(sampler, refuses_logits_that_are_no_numbers) {
  std::vector<float> logits = kLogits;
  logits[2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(Sampler({.temperature = 0}, {}).sample(logits, kPrompt, 2), std::runtime_error);
  logits.assign(6, -std::numeric_limits<float>::infinity());
  EXPECT_THROW(Sampler({}, {}).sample(logits, kPrompt, 2), std::runtime_error);
}

TEST(sampler, takes_logits_that_are_no_numbers_when_they_are_to_be_removed) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  const SamplingParams params{.temperature = 0, .processors = {.remove_invalid_values = true}};
  EXPECT_EQ(Sampler(params, {}).sample(std::vector{-1.0f, kNan, -2.0f}, kPrompt, 2), 1);
  EXPECT_EQ(Sampler(params, {}).sample(std::vector{-1.0f, kNan, kInfinity}, kPrompt, 2), 2);
  EXPECT_EQ(Sampler(params, {}).sample(std::vector{-kInfinity, -kInfinity}, kPrompt, 2), 0);
}

TEST(sampler, an_end_token_that_is_named_twice_grows_once) {
  const std::vector<float> logits{1.0f, 1.0f, 1.7f};
  const SamplingParams params{.temperature = 0, .processors = {.exponential_decay_length_penalty = std::pair<int64_t, double>(0, 1.5)}};
  EXPECT_EQ(Sampler(params, {1, 1}).sample(logits, kPrompt, 1), 2);  // 1.5, and 2 if it grew twice
}

TEST(sampler, what_filters_the_most_probable_needs_no_more_of_them) {
  const auto enough = [](SamplingParams params, const ProcessorParams& processors) {
    params.processors = processors;
    return Sampler(params, {}).enough(3);
  };
  EXPECT_EQ(enough({.temperature = 0}, {}), 1);
  EXPECT_EQ(enough({.top_k = 5}, {.typical_p = 0.5, .epsilon_cutoff = 0.1, .eta_cutoff = 0.1}), 6);
  EXPECT_EQ(enough({.top_k = 5}, {.top_h = 0.5}), 0);
  EXPECT_EQ(enough({.temperature = 0}, {.no_repeat_ngram_size = 2}), 0);
  EXPECT_EQ(enough({.temperature = 0}, {.suppress_tokens = {7}}), 0);
}

TEST(sampler, refuses_senseless_parameters_naming_them) {
  const auto refused = [](const SamplingParams& params, const char* field) {
    try {
      check_sampling(params, 100);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what()).find(field) == 0;
    }
    return false;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NO_THROW(check_sampling({}, 100));
  EXPECT_TRUE(refused({.temperature = -1}, "temperature"));
  EXPECT_TRUE(refused({.temperature = nan}, "temperature"));
  EXPECT_TRUE(refused({.temperature = 1e308}, "temperature"));
  EXPECT_TRUE(refused({.top_k = -5}, "top_k"));
  EXPECT_TRUE(refused({.top_p = 0}, "top_p"));
  EXPECT_TRUE(refused({.top_p = 1.1}, "top_p"));
  EXPECT_TRUE(refused({.min_p = 1.5}, "min_p"));
  EXPECT_TRUE(refused({.repetition_penalty = 0}, "repetition_penalty"));
  EXPECT_TRUE(refused({.presence_penalty = 3}, "presence_penalty"));
  EXPECT_TRUE(refused({.frequency_penalty = -3}, "frequency_penalty"));
  EXPECT_TRUE(refused({.logit_bias = {{100, 1.0}}}, "logit_bias"));
  EXPECT_TRUE(refused({.logit_bias = {{1, nan}}}, "logit_bias"));
  const auto refuses = [&](const ProcessorParams& processors, const char* field) { return refused({.processors = processors}, field); };
  EXPECT_TRUE(refuses({.sequence_bias = {{{1, 100}, 1.0}}}, "sequence_bias"));
  EXPECT_TRUE(refuses({.sequence_bias = {{{}, 1.0}}}, "sequence_bias"));
  EXPECT_TRUE(refuses({.encoder_repetition_penalty = 0}, "encoder_repetition_penalty"));
  EXPECT_TRUE(refuses({.no_repeat_ngram_size = -1}, "no_repeat_ngram_size"));
  EXPECT_TRUE(refuses({.encoder_no_repeat_ngram_size = -1}, "encoder_no_repeat_ngram_size"));
  EXPECT_TRUE(refuses({.bad_words_ids = {{-1}}}, "bad_words_ids"));
  EXPECT_TRUE(refuses({.bad_words_ids = {{}}}, "bad_words_ids"));
  EXPECT_TRUE(refuses({.min_length = -1}, "min_length"));
  EXPECT_TRUE(refuses({.forced_bos_token_id = 100}, "forced_bos_token_id"));
  EXPECT_TRUE(refuses({.forced_eos_token_id = {1, -1}}, "forced_eos_token_id"));
  EXPECT_TRUE(refuses({.exponential_decay_length_penalty = std::pair<int64_t, double>(3, 0.0)}, "exponential_decay_length_penalty"));
  EXPECT_TRUE(refuses({.top_h = 0}, "top_h"));
  EXPECT_TRUE(refuses({.typical_p = 1.5}, "typical_p"));
  EXPECT_TRUE(refuses({.epsilon_cutoff = 1}, "epsilon_cutoff"));
  EXPECT_TRUE(refuses({.eta_cutoff = -0.1}, "eta_cutoff"));
}

}  // namespace
}  // namespace tessera

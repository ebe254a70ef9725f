#include "evaluate/measures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

#include "ops/selection.h"

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_row(size_t width, uint32_t seed, float middle = -20, float spread = 8) {
  std::mt19937 random(seed);
  std::normal_distribution<float> values(middle, spread);
  std::vector<float> row(width);
  for (float& value : row) value = values(random);
  return row;
}

// softmax by its definition, without a shift: logits are small enough for a long double.
std::vector<long double> softmax(std::span<const float> row) {
  std::vector<long double> p;
  for (const float x : row) p.push_back(std::exp(static_cast<long double>(x)));
  const long double sum = std::accumulate(p.begin(), p.end(), 0.0L);
  for (long double& x : p) x /= sum;
  return p;
}

long double divergence(std::span<const float> p_row, std::span<const float> q_row) {
  const auto p = softmax(p_row), q = softmax(q_row);
  long double kl = 0;
  for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
  return kl;
}

TEST(Measures, the_negative_log_likelihood_is_that_of_a_long_double_softmax) {
  for (const size_t width : {1, 2, 31, 300, 262144}) {
    const std::vector<float> row = random_row(width, 1);
    const auto p = softmax(row);
    for (const size_t target : {size_t{0}, width / 2, width - 1}) {
      const long double expected = -std::log(p[target]);
      EXPECT_NEAR(negative_log_likelihood(row, static_cast<TokenId>(target)), static_cast<double>(expected),
                  1e-12 * std::max(1.0, static_cast<double>(expected)))
          << width;
    }
  }
}

TEST(Measures, large_logits_neither_overflow_nor_vanish) {
  const std::vector<float> row{3e38f, -3e38f, 3e38f};
  EXPECT_NEAR(negative_log_likelihood(row, 0), 0, 1e30);  // an ulp of 3e38 is 2e22 in double
  EXPECT_GT(negative_log_likelihood(row, 1), 5e38);
  EXPECT_DOUBLE_EQ(log_sum_exp(std::vector<float>{-1000, -1000}), -1000 + std::log(2.0));
}

TEST(Measures, the_divergence_and_the_differences_are_those_of_plain_loops) {
  for (const size_t width : {2, 33, 300, 262144}) {
    const std::vector<float> p = random_row(width, 2);
    std::vector<float> q = p;
    const std::vector<float> noise = random_row(width, 3, 0, 0.1f);
    for (size_t i = 0; i < width; ++i) q[i] += noise[i];
    const RowComparison compared = compare_rows(p, q);
    double sum = 0, most = 0;
    for (size_t i = 0; i < width; ++i) {
      sum += std::abs(static_cast<double>(p[i]) - q[i]);
      most = std::max(most, std::abs(static_cast<double>(p[i]) - q[i]));
    }
    const auto expected = static_cast<double>(divergence(p, q));
    EXPECT_NEAR(compared.kl, expected, 1e-12 + 1e-9 * expected) << width;
    EXPECT_DOUBLE_EQ(compared.mean_difference, sum / static_cast<double>(width));
    EXPECT_DOUBLE_EQ(compared.max_difference, most);
    EXPECT_NEAR(compared.p_log_sum, log_sum_exp(p), 1e-12);
    EXPECT_NEAR(compared.q_log_sum, log_sum_exp(q), 1e-12);
  }
}

TEST(Measures, the_divergence_has_a_direction_and_is_zero_for_equal_rows_and_for_shifted_ones) {
  const std::vector<float> p{2, 0, -1, 0.5f}, q{0, 1, -3, 0.5f};
  EXPECT_NEAR(compare_rows(p, q).kl, static_cast<double>(divergence(p, q)), 1e-14);
  EXPECT_NEAR(compare_rows(q, p).kl, static_cast<double>(divergence(q, p)), 1e-14);
  EXPECT_GT(std::abs(compare_rows(p, q).kl - compare_rows(q, p).kl), 0.01);
  EXPECT_EQ(compare_rows(p, p).kl, 0);
  std::vector<float> shifted = p;
  for (float& x : shifted) x += 4;
  EXPECT_NEAR(compare_rows(p, shifted).kl, 0, 1e-15);
  EXPECT_EQ(compare_rows(p, shifted).max_difference, 4);
}

TEST(Measures, agreement_asks_for_the_reference_s_best_token) {
  const std::vector<float> p{0, 1, 2, 3, 4, 5, 9};
  std::vector<float> q{0, 1, 2, 3, 4, 5, 9};
  EXPECT_TRUE(compare_rows(p, q).same_best);
  q[6] = 1.5f;  // now the fifth
  EXPECT_FALSE(compare_rows(p, q).same_best);
  EXPECT_TRUE(compare_rows(p, q).best_in_five);
  q[6] = 0.5f;  // the sixth
  EXPECT_FALSE(compare_rows(p, q).best_in_five);
}

TEST(Measures, the_largest_are_those_of_a_stable_sort) {
  std::mt19937 random(5);
  for (const size_t width : {1, 4, 5, 6, 300}) {
    std::vector<float> row(width);
    for (float& x : row) x = static_cast<float>(random() % 7);  // many are equal
    std::vector<TokenId> order(width);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
    for (const size_t count : {size_t{1}, size_t{5}, size_t{64}}) {
      const auto expected = std::vector(order.begin(), order.begin() + static_cast<int64_t>(std::min(count, width)));
      EXPECT_EQ(topk(row, static_cast<int64_t>(width), static_cast<int64_t>(count)).ids, expected);
    }
  }
}

TEST(Measures, rows_that_are_no_logits_are_refused) {
  for (const float bad : {kNan, kInfinity}) {
    const std::vector<float> row{1, bad, 2}, good{1, 2, 3};
    EXPECT_THROW(log_sum_exp(row), std::runtime_error);
    EXPECT_THROW(compare_rows(row, good), std::runtime_error);
    EXPECT_THROW(compare_rows(good, row), std::runtime_error);
  }
  EXPECT_THROW(log_sum_exp(std::vector<float>{-kInfinity, -kInfinity}), std::runtime_error);
  EXPECT_THROW(log_sum_exp({}), std::invalid_argument);
  const std::vector<float> row{1, 2};
  EXPECT_THROW(negative_log_likelihood(row, 2), std::invalid_argument);
  EXPECT_THROW(negative_log_likelihood(row, -1), std::invalid_argument);
  EXPECT_THROW(compare_rows(row, std::vector<float>{1}), std::invalid_argument);
}

TEST(Measures, a_token_that_cannot_be_is_infinitely_surprising) {
  const std::vector<float> row{0, -kInfinity}, other{0, 0};
  EXPECT_EQ(negative_log_likelihood(row, 1), std::numeric_limits<double>::infinity());
  EXPECT_NEAR(compare_rows(row, other).kl, std::log(2.0), 1e-15);
  EXPECT_EQ(compare_rows(other, row).kl, std::numeric_limits<double>::infinity());
}

TEST(Mean, is_that_of_two_passes_also_far_from_zero) {
  std::mt19937 random(7);
  std::normal_distribution<double> values(1e6, 0.5);
  std::vector<double> all(10001);
  Mean mean;
  for (double& x : all) mean.add(x = values(random));
  const auto expected = static_cast<double>(std::accumulate(all.begin(), all.end(), 0.0L) / static_cast<long double>(all.size()));
  long double squares = 0;
  for (const double x : all) squares += (x - expected) * (x - expected);
  const auto count = static_cast<double>(all.size());
  EXPECT_NEAR(mean.mean(), expected, 1e-8);
  EXPECT_NEAR(mean.standard_error(), std::sqrt(static_cast<double>(squares) / (count - 1) / count), 1e-11);
  EXPECT_EQ(mean.max(), *std::max_element(all.begin(), all.end()));
  EXPECT_EQ(mean.count(), 10001);
}

TEST(Perplexity, is_the_exponential_of_the_mean_loss_and_its_error_follows) {
  Mean losses;
  for (const double loss : {std::log(2.0), std::log(8.0)}) losses.add(loss);
  EXPECT_NEAR(perplexity(losses).value, 4, 1e-12);
  EXPECT_NEAR(perplexity(losses).error, 4 * std::log(2.0), 1e-12);  // the losses' deviation is log(2) sqrt(2), of their mean log(2)
  Mean one;
  one.add(0);
  EXPECT_EQ(perplexity(one).error, 0);
}

}  // namespace
}  // namespace tessera

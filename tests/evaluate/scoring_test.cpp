#include "evaluate/scoring.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "tiny_models.h"

namespace tessera {
namespace {

TEST(Windows, score_each_token_once_and_with_the_context_that_they_promise) {
  for (const int64_t tokens : {2, 3, 10, 64, 65, 100})
    for (const int64_t size : {2, 3, 16, 64, 200})
      for (int64_t stride = 1; stride < size; stride += 1 + stride / 3) {
        std::vector<int> times(static_cast<size_t>(tokens));
        for (const Window& window : windows(tokens, size, stride)) {
          EXPECT_TRUE(window.begin >= 0 && window.end <= tokens && window.end - window.begin <= size && window.begin < window.first_scored);
          for (int64_t i = window.first_scored; i < window.end; ++i) {
            ++times[static_cast<size_t>(i)];
            EXPECT_GE(i - window.begin, std::min(i, size - stride)) << tokens << ' ' << size << ' ' << stride;
          }
        }
        EXPECT_EQ(times.front(), 0);
        EXPECT_EQ(std::count(times.begin(), times.end(), 1), tokens - 1) << tokens << ' ' << size << ' ' << stride;
      }
}

TEST(Windows, are_one_when_the_text_fits) {
  const std::vector<Window> all = windows(64, 64, 1);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].end, 64);
}

TEST(Windows, refuse_sizes_that_cannot_score) {
  EXPECT_THROW(windows(1, 8, 4), std::invalid_argument);
  EXPECT_THROW(windows(8, 1, 1), std::invalid_argument);
  EXPECT_THROW(windows(8, 4, 4), std::invalid_argument);
  EXPECT_THROW(windows(8, 4, 0), std::invalid_argument);
}

class Scoring : public testing::Test {
 protected:
  // One model of a precision with a cache of its own.
  struct Side {
    Side(const TinyCheckpoint& checkpoint, Device& device, const ModelOptions& options, int64_t chunk)
        : model(checkpoint.load(device, options)),
          cache(device, model->spec().cache, {.dtype = options.cache, .max_tokens = 400}),
          generator(*model, device, cache, chunk) {}
    std::unique_ptr<Model> model;
    Cache cache;
    Generator generator;
  };

  // The logits of each row of a lone sequence.
  std::vector<std::vector<float>> rows_of(Side& side, std::vector<TokenId> tokens) {
    const auto sequence = side.cache.create();
    sequence->tokens = std::move(tokens);
    std::vector<std::vector<float>> rows;
    Generator::Request request{sequence.get(), static_cast<int64_t>(sequence->tokens.size())};
    side.generator.forward(std::span(&request, 1),
                           [&](size_t, int64_t, std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); });
    return rows;
  }

  cpu::CpuDevice device_{{.threads = 2}};
  TinyCheckpoint checkpoint_ = tiny_phi3(false);
  Side side_{checkpoint_, device_, {}, 0};
};

double plain_loss(const std::vector<float>& row, TokenId target) {
  long double sum = 0;
  for (const float x : row) sum += std::exp(static_cast<long double>(x));
  return static_cast<double>(std::log(sum) - static_cast<long double>(row[static_cast<size_t>(target)]));
}

TEST_F(Scoring, the_losses_of_one_window_are_those_of_the_rows_before_each_token) {
  const std::vector<TokenId> tokens = random_tokens(301, 1);
  const auto rows = rows_of(side_, tokens);
  const std::vector<double> losses = token_losses(side_.generator, {.tokens = tokens, .windows = windows(301, 400, 200)}, 2);
  ASSERT_EQ(losses.size(), 300u);
  for (size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i], plain_loss(rows[i], tokens[i + 1]), 1e-12) << i;
}

TEST_F(Scoring, a_later_window_begins_with_the_start_token_and_knows_nothing_before_it) {
  constexpr TokenId kStart = 7;
  std::vector<TokenId> tokens = random_tokens(100, 2);
  tokens.front() = kStart;
  const ScoredText text{.tokens = tokens, .windows = windows(100, 40, 16), .start = kStart};
  ASSERT_GT(text.windows.size(), 2u);
  const std::vector<double> losses = token_losses(side_.generator, text, 2);
  ASSERT_EQ(losses.size(), 99u);
  size_t i = 0;
  for (const Window& window : text.windows) {
    std::vector<TokenId> alone(tokens.begin() + window.begin, tokens.begin() + window.end);
    alone.front() = kStart;
    const auto rows = rows_of(side_, alone);
    for (int64_t token = window.first_scored; token < window.end; ++token, ++i)
      EXPECT_NEAR(losses[i], plain_loss(rows[static_cast<size_t>(token - window.begin - 1)], tokens[static_cast<size_t>(token)]), 1e-12);
  }
}

TEST_F(Scoring, threads_do_not_change_a_bit_and_progress_ends_at_all) {
  const ScoredText text{.tokens = random_tokens(200, 3), .windows = windows(200, 64, 20)};
  const std::vector<double> alone = token_losses(side_.generator, text, 1);
  int64_t last = -1, of = 0;
  EXPECT_EQ(token_losses(side_.generator, text, 5,
                         [&](int64_t done, int64_t total) {
                           EXPECT_GE(done, last);
                           last = done;
                           of = total;
                         }),
            alone);
  EXPECT_EQ(last, 199);
  EXPECT_EQ(of, 199);
}

TEST_F(Scoring, two_sides_are_compared_row_by_row_however_each_is_cut) {
  Side other(checkpoint_, device_, {.weights = DataType::bfloat8_b}, 7);
  const std::vector<TokenId> tokens = random_tokens(260, 4);
  const ScoredText text{.tokens = tokens, .windows = windows(260, 200, 100)};
  const std::vector<ComparedToken> compared = compare_tokens(side_.generator, other.generator, text, 3);
  ASSERT_EQ(compared.size(), 259u);
  size_t i = 0;
  double kl = 0;
  for (const Window& window : text.windows) {
    const auto p = rows_of(side_, window_tokens(text, window)), q = rows_of(other, window_tokens(text, window));
    for (int64_t token = window.first_scored; token < window.end; ++token, ++i) {
      const auto row = static_cast<size_t>(token - window.begin - 1);
      EXPECT_NEAR(compared[i].p_loss, plain_loss(p[row], tokens[static_cast<size_t>(token)]), 1e-12);
      EXPECT_NEAR(compared[i].q_loss, plain_loss(q[row], tokens[static_cast<size_t>(token)]), 1e-12);
      EXPECT_EQ(compared[i].rows.kl, compare_rows(p[row], q[row]).kl);
      kl += compared[i].rows.kl;
    }
  }
  EXPECT_GT(kl, 0);
}

TEST_F(Scoring, what_stops_a_forward_stops_the_scoring_and_leaves_the_cache_free) {
  const ScoredText text{.tokens = random_tokens(600, 5), .windows = windows(600, 600, 1)};  // the cache has room for 400
  EXPECT_THROW(token_losses(side_.generator, text, 2), ResourceError);
  EXPECT_THROW(token_losses(side_.generator, {.tokens = {1, 300, 2}, .windows = windows(3, 3, 1)}, 2), std::invalid_argument);
  const ScoredText good{.tokens = random_tokens(50, 6), .windows = windows(50, 50, 1)};
  const auto stop = [](int64_t, int64_t) { throw std::runtime_error("stop"); };
  EXPECT_THROW(token_losses(side_.generator, good, 2, stop), std::runtime_error);
  const auto judge = [](size_t i, TokenId, std::span<const float>) {
    if (i == 20) throw std::domain_error("judge");
  };
  EXPECT_THROW(judge_rows(side_.generator, good, 3, judge), std::domain_error);
  EXPECT_EQ(token_losses(side_.generator, good, 2).size(), 49u);
}

}  // namespace
}  // namespace tessera

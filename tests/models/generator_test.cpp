#include "generate/generator.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

class GeneratorTest : public testing::Test {
 protected:
  std::unique_ptr<Sequence> sequence(std::vector<TokenId> tokens) {
    auto made = cache_.create();
    made->tokens = std::move(tokens);
    return made;
  }
  cpu::CpuDevice device_{{.threads = 2}};
  std::unique_ptr<Model> model_ = tiny_phi3(false).load(device_, {});
  Cache cache_{device_, model_->spec().cache, {.max_tokens = 320, .max_sequences = 4, .prefix_cache = false}};
  Generator generator_{*model_, device_, cache_};
};

TEST_F(GeneratorTest, gives_the_logits_of_every_wanted_row_in_order) {
  const auto s = sequence(random_tokens(300, 1));
  std::vector<int64_t> positions;
  std::vector<std::vector<float>> rows;
  Generator::Request request{s.get(), 200};  // more rows than a batch gives
  generator_.forward(std::span(&request, 1), [&](size_t, int64_t position, std::span<const float> logits) {
    positions.push_back(position);
    rows.emplace_back(logits.begin(), logits.end());
  });
  ASSERT_EQ(positions.size(), 200u);
  for (size_t i = 0; i < positions.size(); ++i) EXPECT_EQ(positions[i], static_cast<int64_t>(100 + i));
  cache_.truncate(*s, 251);
  EXPECT_EQ(last_logits(generator_, *s), rows[150]);  // already cached: its last row is computed again
}

TEST_F(GeneratorTest, a_full_cache_is_the_error_of_that_sequence_alone) {
  const auto a = sequence(random_tokens(200, 1)), b = sequence(random_tokens(300, 2)), c = sequence(random_tokens(30, 3));
  std::vector<Generator::Request> requests{{a.get(), 1}, {b.get(), 1}, {c.get(), 1}};
  std::vector<int> rows(3);
  generator_.forward(requests, [&](size_t i, int64_t, std::span<const float>) { ++rows[i]; });
  EXPECT_EQ(rows, (std::vector<int>{1, 0, 1}));
  EXPECT_EQ(requests[0].error, nullptr);
  EXPECT_EQ(requests[2].error, nullptr);
  ASSERT_NE(requests[1].error, nullptr);
  EXPECT_THROW(std::rethrow_exception(requests[1].error), ResourceError);
  EXPECT_THROW(last_logits(generator_, *b), ResourceError);
}

TEST_F(GeneratorTest, refuses_tokens_outside_the_vocabulary_and_leaves_the_sequence_as_it_was) {
  const auto s = sequence(random_tokens(10, 1));
  last_logits(generator_, *s);
  s->tokens.push_back(300);
  EXPECT_THROW(last_logits(generator_, *s), std::invalid_argument);
  s->tokens.back() = -1;
  EXPECT_THROW(last_logits(generator_, *s), std::invalid_argument);
  EXPECT_EQ(s->length(), 10);
  s->tokens.back() = 299;
  EXPECT_NO_THROW(last_logits(generator_, *s));
}

TEST_F(GeneratorTest, refuses_what_the_context_does_not_hold_naming_both_numbers) {
  const auto s = sequence(std::vector<TokenId>(5000, 1));
  try {
    last_logits(generator_, *s);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("5000 tokens"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("4096"), std::string::npos);
  }
}

TEST_F(GeneratorTest, an_exception_in_the_progress_keeps_what_was_committed) {
  Generator chunked(*model_, device_, cache_, 32);
  const auto s = sequence(random_tokens(100, 1));
  EXPECT_THROW(last_logits(chunked, *s,
                           [](int64_t done, int64_t) {
                             if (done >= 64) throw std::runtime_error("stop");
                           }),
               std::runtime_error);
  EXPECT_EQ(s->length(), 64);
  const auto whole = sequence(s->tokens);
  EXPECT_EQ(last_logits(chunked, *s), last_logits(generator_, *whole));
}

}  // namespace
}  // namespace tessera

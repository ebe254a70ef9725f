// LongRoPE per sequence: one that grows past the boundary is computed anew with the long factors, alone.
#include <gtest/gtest.h>

#include <stdexcept>

#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr size_t kBoundary = 64;

class LongRope : public testing::Test {
 protected:
  std::unique_ptr<Sequence> sequence(std::vector<TokenId> tokens) {
    auto made = cache_.create();
    made->tokens = std::move(tokens);
    return made;
  }

  ModelOptions options_{DataType::bfloat16, DataType::bfloat16, DataType::bfloat16};
  cpu::CpuDevice device_{{.threads = 4}};
  std::unique_ptr<Model> model_ = tiny_phi3(true).load(device_, options_);
  Cache cache_{device_, model_->spec().cache, {.dtype = DataType::bfloat16, .max_tokens = 2000, .max_sequences = 8, .prefix_cache = false}};
  Generator generator_{*model_, device_, cache_};
};

TEST_F(LongRope, a_mixed_batch_in_which_one_crosses_equals_three_lone_runs) {
  std::vector<std::vector<TokenId>> tokens{random_tokens(62, 1), random_tokens(20, 2), random_tokens(90, 3)};
  std::vector<std::unique_ptr<Sequence>> together;
  for (const auto& t : tokens) together.push_back(sequence(t));
  for (int step = 0; step < 6; ++step) {  // the first crosses at its third new token
    std::vector<Generator::Request> requests;
    for (const auto& s : together) requests.push_back({s.get(), 1});
    std::vector<std::vector<float>> rows(3);
    generator_.forward(requests, [&](size_t i, int64_t, std::span<const float> logits) { rows[i].assign(logits.begin(), logits.end()); });
    for (size_t i = 0; i < 3; ++i) {
      const auto lone = sequence(together[i]->tokens);
      EXPECT_EQ(last_logits(generator_, *lone), rows[i]) << "sequence " << i << " at " << lone->tokens.size() << " tokens";
      together[i]->tokens.push_back(static_cast<TokenId>(step + 10));
    }
  }
  EXPECT_EQ(together[0]->rope_length(), 67);
  EXPECT_EQ(together[1]->length(), 25);
}

TEST_F(LongRope, the_long_factors_hold_from_the_first_chunk_of_a_long_prompt) {
  const auto whole = sequence(random_tokens(100, 4));
  Generator chunked(*model_, device_, cache_, 16);
  const auto pieces = sequence(whole->tokens);
  EXPECT_EQ(last_logits(generator_, *whole), last_logits(chunked, *pieces));
}

TEST_F(LongRope, the_two_sets_differ_and_a_truncate_below_the_boundary_goes_back) {
  const auto grown = sequence(random_tokens(kBoundary, 5));
  const std::vector<float> before = last_logits(generator_, *grown);
  grown->tokens.push_back(1);
  last_logits(generator_, *grown);
  EXPECT_EQ(grown->rope_length(), kBoundary + 1);
  cache_.truncate(*grown, kBoundary);
  EXPECT_EQ(last_logits(generator_, *grown), before);
  EXPECT_EQ(grown->rope_length(), kBoundary);
}

TEST_F(LongRope, the_device_refuses_pages_made_with_the_other_set) {
  const auto short_one = sequence(random_tokens(10, 6));
  last_logits(generator_, *short_one);
  cache_.reserve(*short_one, 10, 1);
  const TokenId token = 3;
  const Batch::Slice slice{short_one.get(), 0, 1, 10, 1, static_cast<int64_t>(kBoundary) + 1};
  const Batch batch{std::span(&token, 1), std::span(&slice, 1)};
  EXPECT_THROW(device_.run(*model_, batch), std::invalid_argument);
  EXPECT_EQ(short_one->length(), 10);
}

}  // namespace
}  // namespace tessera

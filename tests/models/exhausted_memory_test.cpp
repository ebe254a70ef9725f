// Memory that ends anywhere in loading or generating: an error that can be caught, nothing lost, and the next try gives what it should.
#include <gtest/gtest.h>

#include <functional>

#include "checkpoint/allocations.h"
#include "core/error.h"
#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "generate/sampler.h"
#include "last_logits.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr size_t kMostAllocations = 100'000;

class ExhaustedMemory : public ::testing::TestWithParam<int> {};

// Whether `action` runs out of memory when its n-th allocation and all later ones fail.
bool fails_at(size_t n, const std::function<void()>& action) {
  const testing::AllocationWatch watch(n);
  try {
    action();
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const ResourceError&) {
    return true;
  }
  return false;
}

std::vector<TokenId> continued(Generator& generator, Cache& cache, Sequence& sequence, int count) {
  Sampler sampler({.temperature = 0.7, .top_k = 20, .repetition_penalty = 1.1, .seed = 5}, {1});
  for (int i = 0; i < count; ++i) {
    sequence.tokens.push_back(sampler.sample(last_logits(generator, sequence), sequence.tokens, 20));
    const auto other = cache.fork(sequence);
    cache.truncate(*other, 10);
  }
  return sequence.tokens;
}

TEST_P(ExhaustedMemory, in_loading_and_generating_ends_in_an_error_and_a_retry_works) {
  const TinyCheckpoint tiny = tiny_phi3(true);
  std::vector<TokenId> tokens;
  const auto everything = [&] {
    cpu::CpuDevice device({.threads = GetParam()});
    const auto model = tiny.load(device, {});
    Cache cache(device, model->spec().cache, {.max_tokens = 200, .max_sequences = 2});
    Generator generator(*model, device, cache);
    const auto sequence = cache.create();
    sequence->tokens = random_tokens(63, 4);  // LongRoPE's factors change with the second token
    tokens = continued(generator, cache, *sequence, 3);
  };
  everything();
  const std::vector<TokenId> expected = tokens;
  size_t failures = 0;
  for (size_t n = 1; n < kMostAllocations; n += 1 + n / 200) {
    if (!fails_at(n, everything)) break;
    ++failures;
  }
  EXPECT_GT(failures, 300u);
  everything();
  EXPECT_EQ(tokens, expected);
}

TEST_P(ExhaustedMemory, in_a_step_leaves_the_conversation_fit_to_go_on) {
  cpu::CpuDevice device({.threads = GetParam()});
  const auto model = tiny_gemma3().load(device, {});
  Cache cache(device, model->spec().cache, {.max_tokens = 200, .max_sequences = 2});
  Generator generator(*model, device, cache);
  const auto begun = [&] {
    auto sequence = cache.create();
    sequence->tokens = random_tokens(63, 4);
    return sequence;
  };
  const std::vector<TokenId> expected = continued(generator, cache, *begun(), 3);
  const std::vector<int64_t> free{cache.free_pages(0), cache.free_pages(1)};
  size_t failures = 0;
  for (size_t n = 1; n < kMostAllocations; ++n) {
    auto sequence = begun();
    if (!fails_at(n, [&] { continued(generator, cache, *sequence, 3); })) break;
    ++failures;
    const auto made = static_cast<int>(sequence->tokens.size()) - 63;
    ASSERT_EQ(continued(generator, cache, *sequence, 3 - made), expected) << "after the failure of allocation " << n;
    sequence.reset();
    ASSERT_EQ(cache.sequences(), 0) << n;
    ASSERT_EQ((std::vector<int64_t>{cache.free_pages(0), cache.free_pages(1)}), free) << n;
  }
  EXPECT_GT(failures, 100u);
}

INSTANTIATE_TEST_SUITE_P(threads, ExhaustedMemory, ::testing::Values(1, 3));

}  // namespace
}  // namespace tessera

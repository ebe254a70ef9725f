// Memory that ends anywhere within a step: who cannot go on ends with an error, the others are given what they are given alone, nothing is
// lost, and the scheduler goes on.
#include <gtest/gtest.h>

#include <exception>
#include <iostream>

#include "checkpoint/allocations.h"
#include "paged_device.h"
#include "request_script.h"
#include "thinned.h"

namespace tessera {
namespace {

constexpr int64_t kBoundary = 30;
constexpr size_t kMostAllocations = 10'000;

template <class T>
bool begins_with(const std::vector<T>& whole, const std::vector<T>& part) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

TEST(scheduler_without_memory, ends_whom_it_must_and_gives_the_others_what_they_are_given_alone) {
  std::vector<Scripted> script = make_script({.requests = 9, .seed = 11, .vocab = kPagedVocab, .stem = 17, .tail = 4, .most_new = 40});
  for (Scripted& one : script) {
    one.arrives /= 4;
    one.cancelled.reset();
    ScheduledRequest& request = one.request;
    if (one.arrives > 0) continue;
    request.max_new_tokens = 40, request.end_tokens = {}, one.stop_after = 0;  // who grow beside each other
    request.sampling = {.temperature = 0.7, .top_k = 50, .seed = 1};
    request.constraint = scripted_constraint(7, kPagedVocab, 40);  // looks at its rows twice
  }
  PagedDevice device(PagedDevice::mixing());
  const PagedModel model(10'000, kBoundary);
  Cache cache(device, model.spec().cache, {.max_tokens = 70, .max_sequences = 6});
  Generator generator(model, device, cache);
  const auto rows = [&](std::span<const TokenId> text, size_t count) { return model.rows(text, count); };
  std::vector<std::vector<Given>> alone;
  for (const Scripted& one : script) alone.push_back(run_alone(one, rows));
  int64_t steps = 0;
  {
    Scheduler scheduler(generator, {.budget = 16});
    expect_as_alone(script, run_script(scheduler, script, [&](int64_t step) { steps = step; }), alone);
    EXPECT_GT(scheduler.counts().preempted, 0);
  }
  int64_t failures = 0, errors = 0, samples = 0;
  for (int64_t failing = 0; failing <= steps; failing += kSanitizerBuild ? 13 : 8)
    for (size_t n = 1; n < kMostAllocations; ++n) {
      SCOPED_TRACE(message("step ", failing, ", allocation ", n));
      Scheduler scheduler(generator, {.budget = 16});
      std::optional<testing::AllocationWatch> watch;
      bool reached = false;
      const auto given = run_script(
          scheduler, script,
          [&](int64_t step) {
            if (step == failing) watch.emplace(n);
          },
          [&](int64_t step) {
            if (step != failing) return;
            reached = watch->count() >= n;
            watch.reset();
          });
      for (size_t i = 0; i < script.size(); ++i)
        for (size_t sample = 0; sample < given[i].size(); ++sample) {
          const Given &one = given[i][sample], &lone = alone[i][sample];
          ASSERT_EQ(one.ends, 1) << i;
          ++samples;
          if (one.end->reason == FinishReason::error) {
            errors += lone.end->reason != FinishReason::error;
            ASSERT_TRUE(one.end->error) << i;
            ASSERT_TRUE(begins_with(lone.ids, one.ids)) << i;
          } else {
            ASSERT_EQ(one.ids, lone.ids) << i << ", sample " << sample;
            ASSERT_EQ(one.logprobs, lone.logprobs) << i;
            ASSERT_EQ(one.prompt_logprobs, lone.prompt_logprobs) << i;
            ASSERT_EQ(one.end->reason, lone.end->reason) << i;
          }
        }
      expect_nothing_left(scheduler, cache);
      ASSERT_FALSE(::testing::Test::HasFailure());
      if (!reached) break;
      ++failures;
    }
  EXPECT_GT(failures, kSanitizerBuild ? 200 : 1000);
  EXPECT_GT(errors, 0);
  EXPECT_LT(errors, samples / 10) << "most go on in the next step";
  std::cout << failures << " failures, " << errors << " of " << samples << " samples ended by them\n";
}

}  // namespace
}  // namespace tessera

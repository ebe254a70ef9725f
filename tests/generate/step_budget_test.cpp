#include "generate/step_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace tessera {
namespace {

// A machine whose steps take so many seconds, with noise.
class Machine {
 public:
  double step = 0.010, decode = 0.002, prompt = 0.001;

  double alone(int64_t decodes) const { return step + decode * static_cast<double>(decodes); }
  double seconds(int64_t decodes, int64_t prompts) const { return alone(decodes) + prompt * static_cast<double>(prompts); }
  double seen(int64_t decodes, int64_t prompts) { return seconds(decodes, prompts) * noise_(random_); }

 private:
  std::mt19937 random_{7};
  std::uniform_real_distribution<double> noise_{0.95, 1.05};
};

constexpr int64_t kMost = 512;

// Runs so many steps with a prompt in each; how many times their decodes alone each takes.
std::vector<double> run(StepBudget& budget, Machine& machine, int64_t decodes, int steps) {
  std::vector<double> times;
  for (int i = 0; i < steps; ++i) {
    const int64_t prompts = budget.prompt_tokens(decodes);
    EXPECT_GE(prompts, 1);
    EXPECT_LE(prompts, kMost);
    times.push_back(machine.seconds(decodes, prompts) / machine.alone(decodes));
    budget.saw(decodes, prompts, machine.seen(decodes, prompts));
  }
  return times;
}

void expect_settled(const std::vector<double>& times) {
  for (size_t i = times.size() - 20; i < times.size(); ++i) {
    EXPECT_LE(times[i], 3.3) << i;
    EXPECT_GE(times[i], 2.5) << i;
  }
}

class StepBudgetOfAMachine : public testing::Test {
 protected:
  StepBudgetOfAMachine() {
    for (int i = 0; i < 20; ++i) budget_.saw(8, 0, machine_.seen(8, 0));
  }
  Machine machine_;
  StepBudget budget_{kMost};
};

TEST_F(StepBudgetOfAMachine, settles_at_three_times_the_decodes_alone) { expect_settled(run(budget_, machine_, 8, 40)); }

TEST_F(StepBudgetOfAMachine, follows_when_prompts_take_three_times_as_long_and_back) {
  run(budget_, machine_, 8, 40);
  machine_.prompt *= 3;
  expect_settled(run(budget_, machine_, 8, 40));
  machine_.prompt /= 3;
  expect_settled(run(budget_, machine_, 8, 40));
}

TEST_F(StepBudgetOfAMachine, follows_when_decodes_take_longer_once_it_sees_one_alone) {
  run(budget_, machine_, 8, 40);
  machine_.step *= 2;
  for (int i = 0; i < 30; ++i) budget_.saw(8, 0, machine_.seen(8, 0));
  expect_settled(run(budget_, machine_, 8, 40));
}

TEST_F(StepBudgetOfAMachine, is_for_as_many_decodes_as_there_are) {
  for (int i = 0; i < 20; ++i) budget_.saw(1, 0, machine_.seen(1, 0));
  expect_settled(run(budget_, machine_, 1, 40));
  expect_settled(run(budget_, machine_, 8, 40));
}

TEST_F(StepBudgetOfAMachine, recovers_from_one_step_that_took_a_hundred_times_as_long) {
  run(budget_, machine_, 8, 40);
  const int64_t before = budget_.prompt_tokens(8);
  for (const int64_t prompts : {before, int64_t{0}}) {  // with a prompt, and without
    budget_.saw(8, prompts, 100 * machine_.seconds(8, prompts));
    EXPECT_GE(budget_.prompt_tokens(8), before / 3);
    EXPECT_LE(budget_.prompt_tokens(8), before * 3);
    for (int i = 0; i < 20; ++i) budget_.saw(8, 0, machine_.seen(8, 0));
    expect_settled(run(budget_, machine_, 8, 40));
  }
}

TEST_F(StepBudgetOfAMachine, a_prompt_goes_on_where_a_token_takes_longer_than_all_decodes) {
  machine_.prompt = 1;
  for (const double times : run(budget_, machine_, 8, 40)) EXPECT_GT(times, 1);
  EXPECT_EQ(budget_.prompt_tokens(8), 1);
}

TEST(StepBudget, a_prompt_alone_takes_all_and_before_anything_is_known_some) {
  const StepBudget budget(kMost);
  EXPECT_EQ(budget.prompt_tokens(0), kMost);
  EXPECT_GE(budget.prompt_tokens(3), 1);
  EXPECT_LE(budget.prompt_tokens(3), kMost);
  const StepBudget small(5);
  EXPECT_EQ(small.prompt_tokens(0), 5);
  EXPECT_LE(small.prompt_tokens(3), 5);
}

// Streams that begin beside a prompt: a step of decodes alone has never been seen.
TEST(StepBudget, settles_although_every_step_has_a_prompt) {
  StepBudget budget(kMost);
  Machine machine;
  budget.saw(0, kMost, machine.seen(0, kMost));
  const std::vector<double> times = run(budget, machine, 8, 200);
  for (size_t i = 150; i < times.size(); ++i) EXPECT_LE(times[i], 3.3) << i;
}

}  // namespace
}  // namespace tessera

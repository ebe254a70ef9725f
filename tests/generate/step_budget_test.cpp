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

TEST(StepBudget, a_prompt_alone_takes_all_and_before_anything_is_known_decodes_go_alone) {
  for (const int64_t most : {kMost, int64_t{5}}) {
    StepBudget budget(most);
    EXPECT_EQ(budget.prompt_tokens(0), most);
    EXPECT_EQ(budget.prompt_tokens(3), 0);
    budget.saw(3, 0, 0.01);
    EXPECT_GE(budget.prompt_tokens(3), 1);
    EXPECT_LE(budget.prompt_tokens(3), most);
  }
}

// Streams that begin one by one, beside the prompts of those that wait: no step takes much longer than three times its decodes alone, and
// all prompts together not much longer than they would then.
TEST(StepBudget, many_streams_begin_beside_prompts) {
  StepBudget budget(kMost);
  Machine machine;
  machine.decode = 0.0005;
  machine.prompt = 0.0003;
  budget.saw(0, 64, 64 * 1.5 * machine.prompt);  // the first step of all
  budget.saw(1, 0, machine.seen(1, 0));
  constexpr int64_t kStreams = 32, kPrompt = 128;
  double all = 0, decodes_alone = 0;
  int64_t computed = 0;
  while (computed < kStreams * kPrompt) {
    const int64_t decodes = computed / kPrompt;
    const int64_t prompts = std::min(budget.prompt_tokens(decodes), kStreams * kPrompt - computed);
    if (decodes > 0) EXPECT_LE(machine.seconds(decodes, prompts), 3.6 * machine.alone(decodes)) << decodes;
    budget.saw(decodes, prompts, machine.seen(decodes, prompts));
    all += machine.seconds(decodes, prompts);
    if (decodes > 0) decodes_alone += machine.alone(decodes);
    computed += prompts;
  }
  EXPECT_LE(decodes_alone, 0.4 * all);  // a third, and the steps in which decodes went alone
}

TEST(StepBudget, decodes_between_those_that_were_seen_take_what_lies_between) {
  StepBudget budget(kMost);
  EXPECT_EQ(budget.decode_seconds(4), 0);
  budget.saw(2, 0, 0.010);
  budget.saw(10, 0, 0.026);
  EXPECT_DOUBLE_EQ(budget.decode_seconds(2), 0.010);
  EXPECT_DOUBLE_EQ(budget.decode_seconds(4), 0.014);
  EXPECT_DOUBLE_EQ(budget.decode_seconds(10), 0.026);
  EXPECT_DOUBLE_EQ(budget.decode_seconds(40), 0.026);
  EXPECT_DOUBLE_EQ(budget.decode_seconds(1), 0.005);
}

}  // namespace
}  // namespace tessera

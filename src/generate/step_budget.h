#pragma once
#include <cstdint>
#include <map>

namespace tessera {

// How many tokens of prompts a step may take beside its decodes, so that it takes about three times as long as the decodes alone: learnt
// from the steps before.
class StepBudget {
 public:
  // `most`: tokens of a Batch.
  explicit StepBudget(int64_t most) : most_(most) {}

  // 0 where so many decodes are to go alone once, since far fewer were seen so far.
  int64_t prompt_tokens(int64_t decodes) const;

  // What a prompt's token takes, and a step of so many tokens of decodes alone; 0: not known.
  double prompt_seconds() const { return prompt_.seconds; }
  double decode_seconds(int64_t decodes) const;

  // What a step of so many tokens of decodes and of prompts took.
  void saw(int64_t decodes, int64_t prompts, double seconds);

 private:
  struct Known {
    double seconds = 0;
    int64_t seen = 0;
  };
  static void learn(Known& known, double seen, double least);

  int64_t most_;
  std::map<int64_t, Known> decode_;  // steps of so many decodes alone
  Known prompt_;                     // a prompt's token
};

}  // namespace tessera

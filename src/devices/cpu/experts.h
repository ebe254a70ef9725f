#pragma once
// Which tokens go to which experts, and the sum of what these make of them. Plain C++: little beside the experts' own linears.
#include <cstdint>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/row_view.h"
#include "ops/device.h"

namespace tessera::cpu {

// The tokens that go to one expert, in order, with the weights of what it makes of them.
struct ExpertRows {
  int64_t expert;
  std::vector<int64_t> tokens;
  std::vector<float> weights;
};

// Of the experts that some token goes to, in order, by logits [tokens][experts], float32 or bfloat16: ops.h tells the rule.
std::vector<ExpertRows> route(const ConstRows& logits, const RouterParams& params);

// sums[token] += weight * y's row, of each of the expert's tokens; y [its tokens][hidden] is float32 or bfloat16, sums [tokens][hidden].
void add_weighted(ThreadPool& pool, const ConstRows& y, const ExpertRows& expert, float* sums);

}  // namespace tessera::cpu

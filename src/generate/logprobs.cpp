#include "generate/logprobs.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "ops/selection.h"

namespace tessera {

double log_sum_exp(std::span<const float> logits) {
  check(!logits.empty(), "logits: a row is empty");
  const double top = checked_largest_logit(logits);
  double sum = 0;
  for (const float logit : logits)
    if (const double below = logit - top; below > -kFarBelow) sum += std::exp(below);
  return top + std::log(sum);
}

TokenLogprobs token_logprobs(std::span<const float> logits, TokenId token, int64_t top) {
  const double sum = log_sum_exp(logits);
  const float own = logits[static_cast<size_t>(token)];
  TokenLogprobs found{.token = token, .logprob = own - sum, .rank = 1, .top = {}};
  for (const float logit : logits) found.rank += logit > own;
  if (top == 0) return found;
  const TopK largest = topk(logits, static_cast<int64_t>(logits.size()), top);
  for (size_t i = 0; i < largest.ids.size(); ++i) found.top.emplace_back(largest.ids[i], largest.values[i] - sum);
  return found;
}

}  // namespace tessera

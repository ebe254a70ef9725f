#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/types.h"

namespace tessera {

// exp(-kFarBelow) times a row of any length is far below the rounding of a double.
inline constexpr double kFarBelow = 50;

// log(sum(exp(logits))), summed in double. Throws std::runtime_error when a logit is NaN or +infinity, or when none is finite.
double log_sum_exp(std::span<const float> logits);

// A token's log-probability by softmax(logits), in nats, and the most probable tokens then, the most probable first, equal ones in order of
// their ids.
struct TokenLogprobs {
  TokenId token;
  double logprob;
  int64_t rank;  // 1: none is more probable
  std::vector<std::pair<TokenId, double>> top;
};

// Throws as log_sum_exp does. `token` is in the row.
TokenLogprobs token_logprobs(std::span<const float> logits, TokenId token, int64_t top);

}  // namespace tessera

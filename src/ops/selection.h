#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/types.h"

namespace tessera {

inline constexpr int64_t kMaxTopK = 256;  // of more than so many of the largest logits all are read

// The largest logits of each row, [rows][k], a row's largest first. Which of those equal to the last are there, and in what order equal
// ones stand, is the device's choice.
struct TopK {
  int64_t k = 0;
  std::vector<TokenId> ids;
  std::vector<float> values;
};

// Throws std::runtime_error for a logit that is NaN or +infinity.
void check_logit(float logit, int64_t token);
void check_logits(std::span<const float> logits);

// The largest of numbers that are not NaN. Throws std::runtime_error when all are -infinity.
float largest_logit(std::span<const float> logits);

float checked_largest_logit(std::span<const float> logits);  // check_logits and largest_logit at once

// Device's argmax and topk of rows in this machine's memory. Throws std::runtime_error for a logit that is NaN or +infinity, and for a
// row that is -infinity throughout. topk gives the lowest ids of equal logits, in their order, and no more than a row has.
std::vector<TokenId> argmax(std::span<const float> logits, int64_t vocab);
TopK topk(std::span<const float> logits, int64_t vocab, int64_t k);

}  // namespace tessera

#pragma once
// What rows of logits are judged by. A row is the logits of one position; everything is summed in double. Each function throws
// std::runtime_error when a logit is NaN or +infinity, or when none is finite.
#include <cstdint>
#include <span>
#include <vector>

#include "core/types.h"
#include "generate/logprobs.h"

namespace tessera {

// -log of the probability that softmax(logits) gives `target`, in nats. The target must be in the row.
double negative_log_likelihood(std::span<const float> logits, TokenId target);

// Two rows p and q of the same position, p the reference.
struct RowComparison {
  double p_log_sum, q_log_sum;             // log_sum_exp of each
  double kl;                               // KL(softmax p || softmax q), nats
  double mean_difference, max_difference;  // of |p - q|
  bool same_best;                          // both have the same best token
  bool best_in_five;                       // p's best token is among q's five best
};
RowComparison compare_rows(std::span<const float> p, std::span<const float> q);

// The mean of values that come one by one.
class Mean {
 public:
  void add(double value);
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double max() const { return max_; }
  double standard_error() const;  // of the mean, as if the values were independent; 0 for fewer than two

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0, max_ = 0;
};

struct Perplexity {
  double value;  // exp of the mean loss
  double error;  // its standard error: value times the mean loss's
};
Perplexity perplexity(const Mean& losses);

}  // namespace tessera

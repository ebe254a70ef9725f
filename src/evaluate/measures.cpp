#include "evaluate/measures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "ops/selection.h"

namespace tessera {
namespace {

void check_row(std::span<const float> logits) { check(!logits.empty(), "logits: a row is empty"); }

}  // namespace

double negative_log_likelihood(std::span<const float> logits, TokenId target) {
  check(target >= 0 && static_cast<size_t>(target) < logits.size(), "logits: token id ", target, " is outside a row of ", logits.size());
  return log_sum_exp(logits) - logits[static_cast<size_t>(target)];
}

RowComparison compare_rows(std::span<const float> p, std::span<const float> q) {
  check(p.size() == q.size(), "logits: rows of ", p.size(), " and ", q.size(), " do not compare");
  check_row(p);
  const double p_top = checked_largest_logit(p), q_top = checked_largest_logit(q);
  double p_sum = 0, q_sum = 0, apart = 0, difference_sum = 0, max_difference = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double below_p = p[i] - p_top, below_q = q[i] - q_top;
    const double difference = p[i] == q[i] ? 0 : std::abs(static_cast<double>(p[i]) - q[i]);
    difference_sum += difference;
    max_difference = std::max(max_difference, difference);
    if (below_q > -kFarBelow) q_sum += std::exp(below_q);
    if (below_p <= -kFarBelow) continue;
    const double weight = std::exp(below_p);
    p_sum += weight;
    apart += weight * (below_p - below_q);
  }
  const auto width = static_cast<int64_t>(p.size());
  const std::vector<TokenId> p_best = topk(p, width, 1).ids, q_best = topk(q, width, 5).ids;
  return {.p_log_sum = p_top + std::log(p_sum),
          .q_log_sum = q_top + std::log(q_sum),
          .kl = std::max(0.0, apart / p_sum - std::log(p_sum) + std::log(q_sum)),
          .mean_difference = difference_sum / static_cast<double>(p.size()),
          .max_difference = max_difference,
          .same_best = p_best.front() == q_best.front(),
          .best_in_five = std::find(q_best.begin(), q_best.end(), p_best.front()) != q_best.end()};
}

void Mean::add(double value) {
  max_ = count_ == 0 ? value : std::max(max_, value);
  const double from_mean = value - mean_;
  mean_ += from_mean / static_cast<double>(++count_);
  squares_ += from_mean * (value - mean_);
}

double Mean::standard_error() const {
  return count_ < 2 ? 0 : std::sqrt(squares_ / static_cast<double>(count_ - 1) / static_cast<double>(count_));
}

Perplexity perplexity(const Mean& losses) {
  const double value = std::exp(losses.mean());
  return {value, value * losses.standard_error()};
}

}  // namespace tessera

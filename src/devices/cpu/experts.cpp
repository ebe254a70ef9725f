#include "cpu/experts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "core/data_type.h"

namespace tessera::cpu {
namespace {

float value(const ConstRows& x, int64_t token, int64_t i) {
  return x.type == DataType::float32 ? x.row<float>(token)[i] : to_float(x.row<bfloat16>(token)[i]);
}

}  // namespace

std::vector<ExpertRows> route(const ConstRows& logits, const RouterParams& params) {
  std::vector<ExpertRows> all(static_cast<size_t>(logits.width));
  for (int64_t expert = 0; expert < logits.width; ++expert) all[static_cast<size_t>(expert)].expert = expert;
  std::vector<float> probabilities(all.size());
  std::vector<int64_t> order(all.size());
  for (int64_t token = 0; token < logits.tokens; ++token) {
    float largest = value(logits, token, 0), sum = 0;
    for (int64_t i = 1; i < logits.width; ++i) largest = std::fmax(largest, value(logits, token, i));
    for (int64_t i = 0; i < logits.width; ++i) sum += probabilities[static_cast<size_t>(i)] = std::exp(value(logits, token, i) - largest);
    for (float& probability : probabilities) probability /= sum;
    std::iota(order.begin(), order.end(), 0);
    const auto end = order.begin() + params.top_k;
    std::partial_sort(order.begin(), end, order.end(), [&](int64_t a, int64_t b) {
      const float pa = probabilities[static_cast<size_t>(a)], pb = probabilities[static_cast<size_t>(b)];
      return pa > pb || (!(pa < pb) && a < b);
    });
    float chosen = 0;
    for (auto at = order.begin(); at != end; ++at) chosen += probabilities[static_cast<size_t>(*at)];
    for (auto at = order.begin(); at != end; ++at) {
      const float weight = probabilities[static_cast<size_t>(*at)] / (params.norm_topk_prob ? chosen : 1);
      ExpertRows& expert = all[static_cast<size_t>(*at)];
      expert.tokens.push_back(token);
      expert.weights.push_back(logits.type == DataType::bfloat16 ? round_to_bfloat16(weight) : weight);
    }
  }
  std::erase_if(all, [](const ExpertRows& expert) { return expert.tokens.empty(); });
  return all;
}

void add_weighted(ThreadPool& pool, const ConstRows& y, const ExpertRows& expert, float* sums) {
  const auto add = [&](int64_t row) {
    float* const to = sums + expert.tokens[static_cast<size_t>(row)] * y.width;
    const float weight = expert.weights[static_cast<size_t>(row)];
    for (int64_t i = 0; i < y.width; ++i) to[i] += weight * value(y, row, i);
  };
  if (y.tokens == 1) return add(0);
  pool.parallel_for(y.tokens, [&](int64_t row, int) { add(row); });
}

}  // namespace tessera::cpu

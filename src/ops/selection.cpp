#include "ops/selection.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void check_logit(float logit, int64_t token) {
  check<std::runtime_error>(logit < kInfinity, "non-finite logits: ", logit, " for token ", token,
                            "; check the checkpoint, or compute with float32 activations");
}

void check_logits(std::span<const float> logits) {
  uint32_t others = 0;
  for (const float logit : logits) others |= logit < kInfinity ? 0u : 1u;
  if (others == 0) return;
  for (size_t i = 0; i < logits.size(); ++i) check_logit(logits[i], static_cast<int64_t>(i));
}

// In lanes, which the compiler makes vectors of.
float largest_logit(std::span<const float> logits) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> best;
  best.fill(-kInfinity);
  const size_t whole = logits.size() - logits.size() % kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) best[lane] = logits[i + lane] > best[lane] ? logits[i + lane] : best[lane];
  float largest = *std::max_element(best.begin(), best.end());
  for (size_t i = whole; i < logits.size(); ++i) largest = std::max(largest, logits[i]);
  check<std::runtime_error>(largest > -kInfinity, "no token can be chosen: every logit is -infinity");
  return largest;
}

std::vector<TokenId> argmax(std::span<const float> logits, int64_t vocab) {
  std::vector<TokenId> ids;
  for (; !logits.empty(); logits = logits.subspan(static_cast<size_t>(vocab))) {
    const std::span<const float> row = logits.first(static_cast<size_t>(vocab));
    check_logits(row);
    ids.push_back(static_cast<TokenId>(std::find(row.begin(), row.end(), largest_logit(row)) - row.begin()));
  }
  return ids;
}

TopK topk(std::span<const float> logits, int64_t vocab, int64_t k) {
  TopK found{.k = std::min(k, vocab)};
  const auto count = static_cast<size_t>(found.k);
  std::vector<TokenId> heap;  // the least of the k at the front
  for (; !logits.empty(); logits = logits.subspan(static_cast<size_t>(vocab))) {
    const auto comes_first = [&](TokenId a, TokenId b) {
      const float left = logits[static_cast<size_t>(a)], right = logits[static_cast<size_t>(b)];
      return left > right || (left == right && a < b);
    };
    heap.clear();
    float least = -kInfinity;
    for (size_t i = 0; i < static_cast<size_t>(vocab); ++i) {
      if (!(logits[i] < kInfinity)) check_logit(logits[i], static_cast<int64_t>(i));
      if (heap.size() == count && !(logits[i] > least)) continue;
      if (heap.size() == count) {
        std::pop_heap(heap.begin(), heap.end(), comes_first);
        heap.pop_back();
      }
      heap.push_back(static_cast<TokenId>(i));
      std::push_heap(heap.begin(), heap.end(), comes_first);
      least = logits[static_cast<size_t>(heap.front())];
    }
    std::sort_heap(heap.begin(), heap.end(), comes_first);
    largest_logit(std::span(&logits[static_cast<size_t>(heap.front())], 1));
    for (const TokenId id : heap) {
      found.ids.push_back(id);
      found.values.push_back(logits[static_cast<size_t>(id)]);
    }
  }
  return found;
}

}  // namespace tessera

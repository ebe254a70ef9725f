#include "ops/selection.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check_choice(float largest) { check<std::runtime_error>(largest > -kInfinity, "no token can be chosen: every logit is -infinity"); }

}  // namespace

void check_logit(float logit, int64_t token) {
  check<std::runtime_error>(logit < kInfinity, "non-finite logits: ", logit, " for token ", token,
                            "; check the checkpoint or use --activations float32");
}

std::vector<TokenId> argmax(std::span<const float> logits, int64_t vocab) {
  std::vector<TokenId> ids;
  for (; !logits.empty(); logits = logits.subspan(static_cast<size_t>(vocab))) {
    size_t best = 0;
    for (size_t i = 0; i < static_cast<size_t>(vocab); ++i) {
      if (!(logits[i] < kInfinity)) check_logit(logits[i], static_cast<int64_t>(i));
      if (logits[i] > logits[best]) best = i;
    }
    check_choice(logits[best]);
    ids.push_back(static_cast<TokenId>(best));
  }
  return ids;
}

TopK topk(std::span<const float> logits, int64_t vocab, int64_t k) {
  TopK found{.k = k};
  const auto count = static_cast<size_t>(k);
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
    check_choice(logits[static_cast<size_t>(heap.front())]);
    for (const TokenId id : heap) {
      found.ids.push_back(id);
      found.values.push_back(logits[static_cast<size_t>(id)]);
    }
  }
  return found;
}

}  // namespace tessera

#include "ops/selection.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "core/error.h"

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kBlock = 256, kLanes = 32;

struct Block {
  float largest = -kInfinity;
  bool checked = true;  // none is NaN or +infinity
};

// In lanes, which the compiler makes vectors of.
Block look(std::span<const float> logits) {
  float largest[kLanes];
  uint32_t others[kLanes] = {};
  std::fill(largest, largest + kLanes, -kInfinity);
  const size_t whole = logits.size() - logits.size() % kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float logit = logits[i + lane];
      largest[lane] = logit > largest[lane] ? logit : largest[lane];
      others[lane] |= logit < kInfinity ? 0u : 1u;
    }
  Block block;
  for (size_t i = whole; i < logits.size(); ++i) {
    largest[0] = std::max(largest[0], logits[i]);
    others[0] |= logits[i] < kInfinity ? 0u : 1u;
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    block.largest = std::max(block.largest, largest[lane]);
    block.checked = block.checked && others[lane] == 0;
  }
  return block;
}

void check_found(float largest) { check<std::runtime_error>(largest > -kInfinity, "no token can be chosen: every logit is -infinity"); }

// The largest of each kBlock logits; checks them.
std::vector<float> largest_of_blocks(std::span<const float> logits) {
  std::vector<float> largest;
  largest.reserve(logits.size() / kBlock + 1);
  for (size_t i = 0; i < logits.size(); i += kBlock) {
    const Block block = look(logits.subspan(i, std::min(kBlock, logits.size() - i)));
    if (!block.checked) check_logits(logits);
    largest.push_back(block.largest);
  }
  return largest;
}

}  // namespace

void check_logit(float logit, int64_t token) {
  check<std::runtime_error>(logit < kInfinity, "non-finite logits: ", logit, " for token ", token,
                            "; check the checkpoint, or compute with float32 activations");
}

void check_logits(std::span<const float> logits) {
  if (look(logits).checked) return;
  for (size_t i = 0; i < logits.size(); ++i) check_logit(logits[i], static_cast<int64_t>(i));
}

float largest_logit(std::span<const float> logits) {
  const float largest = look(logits).largest;
  check_found(largest);
  return largest;
}

float checked_largest_logit(std::span<const float> logits) {
  const Block all = look(logits);
  if (!all.checked) check_logits(logits);
  check_found(all.largest);
  return all.largest;
}

std::vector<TokenId> argmax(std::span<const float> logits, int64_t vocab) {
  std::vector<TokenId> ids;
  for (; !logits.empty(); logits = logits.subspan(static_cast<size_t>(vocab))) {
    const std::span<const float> row = logits.first(static_cast<size_t>(vocab));
    const std::vector<float> largest = largest_of_blocks(row);
    const auto block = std::max_element(largest.begin(), largest.end());
    check_found(*block);
    const auto first = row.begin() + (block - largest.begin()) * static_cast<std::ptrdiff_t>(kBlock);
    ids.push_back(static_cast<TokenId>(std::find(first, row.end(), *block) - row.begin()));
  }
  return ids;
}

// The k-th largest of the blocks' largest is a bound that k logits at least reach, and few more: these are sorted.
TopK topk(std::span<const float> logits, int64_t vocab, int64_t k) {
  TopK found{.k = std::min(k, vocab)};
  const auto count = static_cast<size_t>(found.k);
  std::vector<TokenId> ids;
  for (; !logits.empty(); logits = logits.subspan(static_cast<size_t>(vocab))) {
    const std::span<const float> row = logits.first(static_cast<size_t>(vocab));
    const std::vector<float> largest = largest_of_blocks(row);
    check_found(*std::max_element(largest.begin(), largest.end()));
    float bound = -kInfinity;
    if (count <= largest.size()) {
      std::vector<float> sorted = largest;
      std::nth_element(sorted.begin(), sorted.begin() + (found.k - 1), sorted.end(), std::greater());
      bound = sorted[count - 1];
    }
    ids.clear();
    for (size_t block = 0; block < largest.size(); ++block) {
      if (largest[block] < bound) continue;
      for (size_t i = block * kBlock; i < std::min(row.size(), (block + 1) * kBlock); ++i)
        if (row[i] >= bound) ids.push_back(static_cast<TokenId>(i));
    }
    const auto comes_first = [&](TokenId a, TokenId b) {
      const float left = row[static_cast<size_t>(a)], right = row[static_cast<size_t>(b)];
      return left > right || (left == right && a < b);
    };
    std::partial_sort(ids.begin(), ids.begin() + found.k, ids.end(), comes_first);
    for (const TokenId id : std::span(ids).first(count)) {
      found.ids.push_back(id);
      found.values.push_back(row[static_cast<size_t>(id)]);
    }
  }
  return found;
}

}  // namespace tessera

#pragma once
// Fused attention over cache pages: softmax(scale q k^T) v, the scores capped or not, with an online softmax, never a full matrix of
// scores.
//
// The order of every sum is fixed by positions alone. Keys are worked on in ranges of 256 that start at absolute positions. Inside a range
// a score sums over head_dim, the softmax's sum and the values' sums over the keys in order; the ranges' results are merged left to right.
// A key that a query does not see adds exactly nothing, whatever its page holds. So a token's output is the same, bit for bit, decoded
// alone, in a prompt of any chunks, beside any neighbours, on any number of threads.
//
// bfloat16 queries on a bfloat16 or bfloat8_b cache: products of bfloat16 pairs, sums and softmax in float32, probabilities rounded to
// bfloat16 before they meet the values. Otherwise everything is float32. The output is rounded once.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "cpu/kv_cache.h"
#include "cpu/row_view.h"

namespace tessera::cpu {

struct AttentionOptions {
  int64_t layer;
  float scale;
  std::optional<int64_t> window;      // keys that a query sees, its own included; nullopt: all before it
  std::optional<float> softcap = {};  // of the scaled scores
};

struct AttentionScratch;

// Holds scratch memory between calls: one object a device, one call at a time.
class Attention {
 public:
  Attention(ThreadPool& pool, Isa isa);
  ~Attention();

  // q and out [tokens][heads][head_dim], float32 or bfloat16, alike; `out` must not overlap q. The token at position p sees the keys at
  // (p - window, p], which the cache must hold: append first. Query head h uses key head h / (heads / num_kv_heads). Rows that are in no
  // slice are left alone. Throws std::invalid_argument for shapes that disagree and pages that a table lacks.
  void attend(const KvCache& cache, std::span<const CacheSlice> slices, const ConstRows& q, const Rows& out,
              const AttentionOptions& options);

 private:
  ThreadPool& pool_;
  Isa isa_;
  std::unique_ptr<AttentionScratch> scratch_;
};

}  // namespace tessera::cpu

#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "core/batch.h"
#include "core/thread_pool.h"
#include "cpu/kv_cache.h"
#include "ops/device.h"

namespace tessera::cpu {

// The cpu's preparation of a Batch: the position of each token, the rows whose logits are wanted, and cos and sin as they are asked for.
class CpuStep final : public Step {
 public:
  explicit CpuStep(const Batch& batch);

  const std::vector<int64_t>& positions() const { return positions_; }
  const std::vector<int64_t>& wanted_rows() const { return wanted_rows_; }
  bool decodes(int64_t token) const { return decodes_[static_cast<size_t>(token)]; }  // it is its slice's only one

  // The Step's slices with the page tables of this group of layers.
  const std::vector<CacheSlice>& cache_slices(size_t group) const;

  // Made at the first call for this rotary embedding, then kept for the other layers.
  const RotaryRows& rotary_rows(ThreadPool& pool, const Rotary& rotary, DataType activations) const;

 private:
  std::vector<int64_t> positions_, wanted_rows_;
  std::vector<bool> decodes_;
  // Only the thread that runs the Step asks.
  mutable std::vector<std::vector<CacheSlice>> cache_slices_;  // by group
  mutable std::map<std::pair<const Rotary*, DataType>, RotaryRows> rotary_rows_;
};

}  // namespace tessera::cpu

#include "cpu/cpu_step.h"

namespace tessera::cpu {

CpuStep::CpuStep(const Batch& batch) : Step(batch) {
  positions_.reserve(batch.tokens.size());
  for (const Batch::Slice& slice : batch.slices) {
    decodes_.insert(decodes_.end(), static_cast<size_t>(slice.count), slice.count == 1);
    for (int64_t i = 0; i < slice.count; ++i) positions_.push_back(slice.position + i);
    for (int64_t i = slice.count - slice.logit_rows; i < slice.count; ++i) wanted_rows_.push_back(slice.first + i);
  }
}

const std::vector<CacheSlice>& CpuStep::cache_slices(size_t group) const {
  if (cache_slices_.size() <= group) cache_slices_.resize(group + 1);
  std::vector<CacheSlice>& slices = cache_slices_[group];
  if (slices.empty())
    for (const Batch::Slice& slice : batch().slices)
      slices.push_back({slice.first, slice.count, slice.position, &slice.sequence->table(group)});
  return slices;
}

const RotaryRows& CpuStep::rotary_rows(ThreadPool& pool, const Rotary& rotary, DataType activations) const {
  const auto [at, is_new] = rotary_rows_.try_emplace({&rotary, activations});
  if (is_new) at->second = tessera::rotary_rows(pool, batch(), rotary, activations, tokens());
  return at->second;
}

}  // namespace tessera::cpu

#include "cpu/cpu_step.h"

#include "cpu/rows.h"

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

const CpuStep::RotaryRows& CpuStep::rotary_rows(ThreadPool& pool, const Rotary& rotary, DataType activations) const {
  for (const auto& made : rotary_rows_)
    if (made->rotary == &rotary && made->activations == activations) return *made;
  const auto half = static_cast<size_t>(rotary.dim / 2);
  auto made = std::make_unique<RotaryRows>(
      RotaryRows{&rotary, activations, std::vector<float>(positions_.size() * half), std::vector<float>(positions_.size() * half)});
  for (const Batch::Slice& slice : batch().slices) {
    const size_t first = static_cast<size_t>(slice.first) * half;
    make_rotary_rows(pool, std::span(positions_).subspan(static_cast<size_t>(slice.first), static_cast<size_t>(slice.count)),
                     rotary.frequencies(slice.rope_length), rotary.attention_factor, activations, made->cos.data() + first,
                     made->sin.data() + first);
  }
  return *rotary_rows_.emplace_back(std::move(made));
}

}  // namespace tessera::cpu

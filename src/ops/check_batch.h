#pragma once
#include <optional>

#include "core/batch.h"
#include "ops/device.h"

namespace tessera {

// Throws std::invalid_argument for a Batch that breaks the contract of Batch::Slice or the limits.
void check_batch(const Batch& batch, const Limits& limits);

// Throws std::invalid_argument for a slice whose sequence has pages made with LongRoPE's other factors; `boundary` is the cache's
// recompute_after.
void check_rope_lengths(const Batch& batch, std::optional<int64_t> boundary);

}  // namespace tessera

#pragma once
// What of a model the n150's device does not compute with: each throws std::invalid_argument that says so. Asked before anything is packed
// (plan), and by the device itself.
#include <cstdint>

#include "ops/device.h"

namespace tessera::n150 {

// Experts; heads that are no whole tiles, or more of them than a decode takes.
void check_weight(const WeightSpec& spec);

// Of queries or keys of so many values: their order on the card is another than the norm's weight's.
void check_norm_of_heads(int64_t head_dim);

// TTNN's attention over pages has no softcap.
void check_attention(bool softcap);

}  // namespace tessera::n150

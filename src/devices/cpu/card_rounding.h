#pragma once
// How TTNN 0.81's kernels round on an n150, seen on a simulated card.
#include <bit>
#include <cstdint>

#include "core/data_type.h"

namespace tessera::cpu {

constexpr int kTf32 = 13;  // bits of a float32 that TF32 lacks: the matrix unit reads float32 so

inline float truncated(float x, int bits) { return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & ~0u << bits); }

// To bfloat16, half away from zero: the matrix unit's and the packer's rounding. The vector unit's is to even.
inline uint16_t packed_bits(float x) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0x8000u) >> 16); }
inline float packed(float x) { return to_float(bfloat16{packed_bits(x)}); }

}  // namespace tessera::cpu

#pragma once
// IEEE 754 binary16 ("float16", torch.float16, safetensors F16): storage of checkpoints only, nothing is computed in it.
#include <bit>
#include <cstdint>

namespace tessera {

// A float16 as its 16 bits: 1 sign, 5 exponent (bias 15), 10 fraction.
struct float16 {
  uint16_t bits;
};

// Exact: every float16 is a float32. Subnormals, infinities and NaN payloads are kept; a signalling NaN stays one.
inline float to_float(float16 x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1Fu;
  const uint32_t fraction = x.bits & 0x3FFu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

}  // namespace tessera

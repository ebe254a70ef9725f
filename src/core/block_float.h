#pragma once
// Tenstorrent's block formats: 16 values share one 8-bit exponent, each keeps a sign and a magnitude of 7 (bfloat8_b) or 3 (bfloat4_b)
// bits, the hidden bit among them. The value of a code is +-magnitude * 2^(exponent - 127 - (bits - 1)).
//
// Rounding is that of TTNN 0.81.1's host packer, bit for bit (tests/n150/test_tiles.py holds both against each other):
//   - the shared exponent is the largest exponent field among the 16 values;
//   - a value's 24-bit mantissa is shifted right by its distance to it, dropping bits, then rounded to nearest even and clamped to the
//     largest magnitude, so a block's largest value never moves to the next exponent;
//   - zeros and denormals become code 0; a magnitude that rounds to 0 loses its sign;
//   - Inf and NaN have the exponent field 255 and are treated like any other: a code whose value is Inf (magnitude 64 or 4) or NaN (more);
//     all finite values beside them vanish, unless they are within the last few binades.
#include <cstdint>
#include <span>

#include "core/data_type.h"

namespace tessera {

inline constexpr int64_t kSharedExponent = 16;  // values that share one exponent

// Magnitude bits of a block format: 7 or 3. Throws std::invalid_argument for another type.
int magnitude_bits(DataType format);

// Rounds 16 values; returns their exponent. A code is sign << bits | magnitude.
uint8_t encode_block(DataType format, std::span<const float, kSharedExponent> values, std::span<uint8_t, kSharedExponent> codes);

// The value of a code: always exactly a bfloat16. Exponent 255 gives Inf, NaN or, for magnitudes below 64 (or 4), a finite value.
float decode_block(DataType format, uint8_t exponent, uint8_t code);

}  // namespace tessera

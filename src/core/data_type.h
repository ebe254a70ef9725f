#pragma once
// Number formats. bfloat8_b and bfloat4_b are Tenstorrent's block formats: 16 values share an 8-bit exponent.
#include <bit>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace tessera {

enum class DataType { float32, bfloat16, bfloat8_b, bfloat4_b, int32 };

std::string_view name(DataType dtype);
// "float32", "bfloat16", "bfloat8_b", "bfloat4_b"; throws std::invalid_argument naming the choices.
DataType parse_data_type(std::string_view text);
std::ostream& operator<<(std::ostream& out, DataType dtype);

// A bfloat16 as its 16 bits.
struct bfloat16 {
  uint16_t bits;
};

inline float to_float(bfloat16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float to_float(float x) { return x; }

// Rounded to nearest even; a NaN stays a (quiet) NaN.
inline bfloat16 to_bfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

// The float32 value that `x` has after rounding to bfloat16.
inline float round_to_bfloat16(float x) { return to_float(to_bfloat16(x)); }

}  // namespace tessera

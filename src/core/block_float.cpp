#include "core/block_float.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace tessera {
namespace {

uint32_t exponent_field(float value) { return std::bit_cast<uint32_t>(value) >> 23 & 0xFFu; }

}  // namespace

int magnitude_bits(DataType format) {
  check(format == DataType::bfloat8_b || format == DataType::bfloat4_b, "block format: ", format,
        " is none; choose bfloat8_b or bfloat4_b");
  return format == DataType::bfloat8_b ? 7 : 3;
}

uint8_t encode_block(DataType format, std::span<const float, kSharedExponent> values, std::span<uint8_t, kSharedExponent> codes) {
  const int bits = magnitude_bits(format);
  const uint32_t dropped = 24 - bits, largest = (1u << bits) - 1;
  uint32_t shared = 0;
  for (float value : values) shared = std::max(shared, exponent_field(value));
  for (int64_t i = 0; i < kSharedExponent; ++i) {
    const uint32_t field = exponent_field(values[i]), word = std::bit_cast<uint32_t>(values[i]);
    const uint32_t mantissa = field == 0 ? 0 : (0x800000u | (word & 0x7FFFFFu)) >> std::min(shared - field, 31u);
    const uint32_t even = mantissa >> dropped & 1u;
    const uint32_t magnitude = std::min((mantissa + (1u << (dropped - 1)) - 1 + even) >> dropped, largest);
    const uint32_t sign = magnitude == 0 ? 0 : word >> 31;
    codes[i] = static_cast<uint8_t>(sign << bits | magnitude);
  }
  return static_cast<uint8_t>(shared);
}

float decode_block(DataType format, uint8_t exponent, uint8_t code) {
  const int bits = magnitude_bits(format);
  const uint32_t magnitude = code & ((1u << bits) - 1), sign = static_cast<uint32_t>(code >> bits) << 31;
  if (magnitude == 0) return std::bit_cast<float>(sign);
  const int shift = bits - static_cast<int>(std::bit_width(magnitude));  // places that the leading bit is below the hidden bit's
  const int field = exponent - shift;
  if (field > 0) {
    const uint32_t mantissa = (magnitude << (24 - bits + shift)) & 0x7FFFFFu;
    return std::bit_cast<float>(sign | static_cast<uint32_t>(field) << 23 | mantissa);
  }
  // Below the smallest normal float32: a denormal, exactly.
  const float value = static_cast<float>(magnitude) * 0x1p-126f * std::bit_cast<float>(static_cast<uint32_t>(127 - bits + exponent) << 23);
  return sign ? -value : value;
}

}  // namespace tessera

#pragma once
// The number types in which a checkpoint stores weights, and their values as float32.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tessera {

enum class StoredType { float32, float16, bfloat16 };

constexpr int64_t bytes_of(StoredType type) { return type == StoredType::float32 ? 4 : 2; }

// The value of an IEEE half (1-5-10 bits), exactly.
inline float half_to_float(uint16_t half) {
  // The half's exponent and mantissa in a float32's place, 112 too small in the exponent: the product corrects it, denormals included.
  const float magnitude = std::bit_cast<float>(static_cast<uint32_t>(half & 0x7FFFu) << 13) * 0x1p112f;
  const uint32_t special = (half & 0x7C00u) == 0x7C00u ? 0x7F800000u : 0u;  // Inf and NaN keep their mantissa
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | special | static_cast<uint32_t>(half & 0x8000u) << 16);
}

// The value of number `index` of an array that may start at any address.
inline float load_stored(StoredType type, const std::byte* data, int64_t index) {
  if (type == StoredType::float32) {
    float value;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + index * 2, 2);
  return type == StoredType::float16 ? half_to_float(bits) : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace tessera

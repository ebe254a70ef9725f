#pragma once
// The number types in which a checkpoint stores weights, and their values as float32.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "core/half.h"

namespace tessera {

enum class StoredType { float32, float16, bfloat16 };

constexpr int64_t bytes_of(StoredType type) { return type == StoredType::float32 ? 4 : 2; }

// Numbers as they stand in their source, at any alignment; borrowed.
struct StoredValues {
  const std::byte* data = nullptr;
  StoredType type = StoredType::float32;
};

// Rows of a weight, row after row, and their biases, if the weight has them.
struct WeightPart {
  const std::byte* data;
  StoredType type;
  int64_t rows;
  StoredValues bias = {};
  std::function<void(int64_t first, int64_t count)> done = {};  // may be called when these rows are not needed any more
};

// The value of number `index` of an array that may start at any address.
inline float load_stored(StoredType type, const std::byte* data, int64_t index) {
  if (type == StoredType::float32) {
    float value;
    std::memcpy(&value, data + index * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + index * 2, 2);
  return type == StoredType::float16 ? to_float(float16{bits}) : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace tessera

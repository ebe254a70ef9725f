#pragma once
// Rows of activations inside a larger buffer: [tokens][heads][width], float32 or bfloat16. Plain rows have one head. A view owns nothing.
#include <cstddef>
#include <cstdint>

#include "core/data_type.h"

namespace tessera::cpu {

struct ConstRows {
  const void* data;
  DataType type;  // float32 or bfloat16
  int64_t tokens, heads, width;
  int64_t token_stride, head_stride;  // in elements, from one token (head) to the next

  template <class T>
  const T* row(int64_t token, int64_t head = 0) const {
    return static_cast<const T*>(data) + token * token_stride + head * head_stride;
  }
};

struct Rows {
  void* data;
  DataType type;
  int64_t tokens, heads, width;
  int64_t token_stride, head_stride;

  template <class T>
  T* row(int64_t token, int64_t head = 0) const {
    return static_cast<T*>(data) + token * token_stride + head * head_stride;
  }
  operator ConstRows() const { return {data, type, tokens, heads, width, token_stride, head_stride}; }
};

// `tokens` rows of `width` numbers, one behind the other.
inline Rows dense_rows(void* data, DataType type, int64_t tokens, int64_t width) { return {data, type, tokens, 1, width, width, width}; }
inline ConstRows dense_rows(const void* data, DataType type, int64_t tokens, int64_t width) {
  return {data, type, tokens, 1, width, width, width};
}

}  // namespace tessera::cpu

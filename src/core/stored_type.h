#pragma once
#include <cstddef>

namespace tessera {

// How a checkpoint's weight stands in its file or memory.
enum class StoredType { float32, float16, bfloat16 };

inline size_t bytes(StoredType type) { return type == StoredType::float32 ? 4 : 2; }

}  // namespace tessera

#pragma once
// Bytes of a weight as a Tenstorrent card keeps them: 32 x 32 tiles, row of tiles after row of tiles. A tile is four faces of 16 x 16
// (upper left, upper right, lower left, lower right), each row by row. In the block formats a row of a face shares an exponent; a tile's 64
// exponents come before its codes, and two bfloat4_b codes make a byte, the first in its low half. TTNN's own host packer makes the same
// bytes (tests/n150/test_tiles.py).
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/data_type.h"
#include "core/stored_type.h"
#include "core/thread_pool.h"

namespace tessera::ttnn {

inline constexpr int64_t kTile = 32;

constexpr int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Where the value at (row, column) of a tensor with so many columns, a multiple of 32, stands among its values in tiles.
constexpr int64_t tiled_index(int64_t row, int64_t column, int64_t columns) {
  const int64_t tile = row / kTile * (columns / kTile) + column / kTile, face = row % kTile / 16 * 2 + column % kTile / 16;
  return tile * kTile * kTile + face * 256 + row % 16 * 16 + column % 16;
}

// Bytes of [rows, columns], padded to whole tiles. Throws std::invalid_argument for a type that the card has no tiles of here: bfloat16,
// bfloat8_b and bfloat4_b are those that weights and caches take.
int64_t tiled_bytes(DataType dtype, int64_t rows, int64_t columns);

// The values of one output of a weight, as its source stores them; nullptr: zeros.
struct StoredRow {
  const std::byte* data;
  StoredType type;
};

// The weight as the card multiplies it, [in, out], with the values of output o from outputs[o]; `out` has tiled_bytes(dtype, in, outputs).
void pack_tiles(ThreadPool& pool, DataType dtype, std::span<const StoredRow> outputs, int64_t in, std::span<std::byte> out);

// The same values, rounded as pack_tiles rounds them, as bfloat16 row by row, [outputs, in]: a table to look rows up in.
void pack_table(ThreadPool& pool, DataType dtype, std::span<const StoredRow> outputs, int64_t in, std::span<bfloat16> out);

}  // namespace tessera::ttnn

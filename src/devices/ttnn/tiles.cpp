#include "ttnn/tiles.h"

#include <algorithm>
#include <cstring>

#include "core/block_float.h"
#include "core/error.h"

namespace tessera::ttnn {
namespace {

constexpr int64_t kFace = 16, kFaceRows = 64, kTileValues = kTile * kTile;
static_assert(kFace == kSharedExponent);

int64_t tile_bytes(DataType dtype) {
  switch (dtype) {
    case DataType::bfloat16:
      return 2 * kTileValues;
    case DataType::bfloat8_b:
      return kFaceRows + kTileValues;
    case DataType::bfloat4_b:
      return kFaceRows + kTileValues / 2;
    default:
      fail("tiles: the n150 takes no weights of ", dtype, "; choose bfloat16, bfloat8_b or bfloat4_b");
  }
}

void load_values(const StoredRow& row, int64_t first, int64_t count, float* values) {
  if (row.data == nullptr) {
    std::fill_n(values, count, 0.0f);
  } else if (row.type == StoredType::bfloat16) {
    for (int64_t i = 0; i < count; ++i) values[i] = load_stored(StoredType::bfloat16, row.data, first + i);
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = load_stored(row.type, row.data, first + i);
  }
}

// As TTNN rounds: every NaN becomes the same one.
bfloat16 round_value(float value) { return value != value ? bfloat16{0x7FC0} : to_bfloat16(value); }

// 32 inputs of 32 outputs, [input][output]; zero past the weight's edges.
struct Square {
  float values[kTile][kTile];

  Square(std::span<const StoredRow> outputs, int64_t first_output, int64_t in, int64_t first_input) {
    const int64_t inputs = std::min(kTile, in - first_input);
    for (int64_t o = 0; o < kTile; ++o) {
      float row[kTile] = {};
      if (first_output + o < static_cast<int64_t>(outputs.size()))
        load_values(outputs[static_cast<size_t>(first_output + o)], first_input, inputs, row);
      for (int64_t i = 0; i < kTile; ++i) values[i][o] = row[i];
    }
  }

  std::span<const float, kFace> face_row(int64_t input, int64_t half) const {
    return std::span<const float, kFace>(values[input] + half * kFace, kFace);
  }
};

// Calls use(input, half, index of this row of a face in the tile).
template <class Use>
void for_face_rows(const Use& use) {
  for (int64_t input = 0; input < kTile; ++input)
    for (int64_t half = 0; half < 2; ++half) use(input, half, (input / kFace * 2 + half) * kFace + input % kFace);
}

void write_tile(DataType dtype, const Square& square, std::byte* tile) {
  for_face_rows([&](int64_t input, int64_t half, int64_t index) {
    const auto values = square.face_row(input, half);
    if (dtype == DataType::bfloat16) {
      bfloat16 rounded[kFace];
      std::transform(values.begin(), values.end(), rounded, round_value);
      std::memcpy(tile + index * sizeof(rounded), rounded, sizeof(rounded));
      return;
    }
    uint8_t codes[kFace];
    tile[index] = std::byte{encode_block(dtype, values, codes)};
    if (dtype == DataType::bfloat8_b)
      std::memcpy(tile + kFaceRows + index * kFace, codes, kFace);
    else
      for (int64_t i = 0; i < kFace; i += 2) tile[kFaceRows + (index * kFace + i) / 2] = std::byte(codes[i] | codes[i + 1] << 4);
  });
}

}  // namespace

int64_t tiled_bytes(DataType dtype, int64_t rows, int64_t columns) {
  return round_up(rows, kTile) / kTile * (round_up(columns, kTile) / kTile) * tile_bytes(dtype);
}

void pack_tiles(ThreadPool& pool, DataType dtype, std::span<const StoredRow> outputs, int64_t in, std::span<std::byte> out) {
  const auto count = static_cast<int64_t>(outputs.size());
  check(static_cast<int64_t>(out.size()) == tiled_bytes(dtype, in, count), "tiles: ", out.size(), " bytes do not hold [", in, ", ", count,
        "] of ", dtype);
  const int64_t columns = round_up(count, kTile) / kTile, bytes = tile_bytes(dtype);
  pool.parallel_for(columns, [&](int64_t column, int) {
    for (int64_t row = 0; row * kTile < in; ++row)
      write_tile(dtype, Square(outputs, column * kTile, in, row * kTile), out.data() + (row * columns + column) * bytes);
  });
}

void pack_table(ThreadPool& pool, DataType dtype, std::span<const StoredRow> outputs, int64_t in, std::span<bfloat16> out) {
  const auto count = static_cast<int64_t>(outputs.size());
  check(static_cast<int64_t>(out.size()) == count * in, "tiles: ", out.size(), " values do not hold [", count, ", ", in, "]");
  const bool blocks = dtype == DataType::bfloat8_b || dtype == DataType::bfloat4_b;
  pool.parallel_for(round_up(count, kTile) / kTile, [&](int64_t piece, int) {
    for (int64_t first_input = 0; first_input < in; first_input += kTile) {
      Square square(outputs, piece * kTile, in, first_input);
      if (blocks)
        for_face_rows([&](int64_t input, int64_t half, int64_t) {
          uint8_t codes[kFace];
          const uint8_t exponent = encode_block(dtype, square.face_row(input, half), codes);
          for (int64_t i = 0; i < kFace; ++i) square.values[input][half * kFace + i] = decode_block(dtype, exponent, codes[i]);
        });
      for (int64_t o = piece * kTile; o < std::min(count, (piece + 1) * kTile); ++o)
        for (int64_t i = first_input; i < std::min(in, first_input + kTile); ++i)
          out[static_cast<size_t>(o * in + i)] = round_value(square.values[i - first_input][o % kTile]);
    }
  });
}

}  // namespace tessera::ttnn

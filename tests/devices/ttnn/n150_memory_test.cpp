#include "ttnn/n150_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace tessera::n150 {
namespace {

// Deals pages to the banks one by one; all banks give what the fullest has.
size_t dealt(size_t pages, size_t page_bytes) {
  std::array<size_t, 12> banks{};
  for (size_t page = 0; page < pages; ++page) banks[page % banks.size()] += page_bytes;
  return 12 * *std::max_element(banks.begin(), banks.end());
}

// Tiles of 32 x 32 that cover a matrix, counted one by one.
size_t tiles(int64_t rows, int64_t width) {
  size_t count = 0;
  for (int64_t row = 0; row < rows; row += 32)
    for (int64_t column = 0; column < width; column += 32) ++count;
  return count;
}

WeightSpec spec(Role role, int64_t out, int64_t in, DataType type) {
  return {.role = role, .shape = {1, 1, out, in}, .options = {.weights = type}};
}

TEST(N150Memory, weights_lie_in_tiles_dealt_to_twelve_banks) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {31, 33}, {32, 32}, {255, 640}, {20480, 2560}, {32064, 3072}}) {
    EXPECT_EQ(weight_bytes(spec(Role::down, out, in, DataType::bfloat16)), dealt(tiles(out, in), 2048)) << out;
    EXPECT_EQ(weight_bytes(spec(Role::qkv, out, in, DataType::bfloat8_b)), dealt(tiles(out, in), 1088)) << out;
    EXPECT_EQ(weight_bytes(spec(Role::head, out, in, DataType::bfloat4_b)), dealt(tiles(out, in), 576)) << out;
    EXPECT_EQ(weight_bytes(spec(Role::embedding, out, in, DataType::bfloat8_b)),
              dealt(static_cast<size_t>(out), static_cast<size_t>(2 * in)))
        << out;
    EXPECT_EQ(
        weight_bytes(spec(Role::tied_embedding, out, in, DataType::bfloat8_b)),
        weight_bytes(spec(Role::embedding, out, in, DataType::bfloat8_b)) + weight_bytes(spec(Role::head, out, in, DataType::bfloat8_b)))
        << out;
  }
  WeightSpec biased = spec(Role::qkv, 3072, 2560, DataType::bfloat8_b);
  biased.bias = Bias::each_output;  // a row of tiles of float32
  EXPECT_EQ(weight_bytes(biased), dealt(tiles(3072, 2560), 1088) + dealt(tiles(1, 3072), 4096));
  biased.role = Role::gate_up;  // two halves
  EXPECT_EQ(weight_bytes(biased), dealt(tiles(3072, 2560), 1088) + 2 * dealt(tiles(1, 1536), 4096));
  EXPECT_EQ(weight_bytes(spec(Role::norm, 1, 2560, DataType::bfloat8_b)), dealt(80, 4096));
  EXPECT_THROW(weight_bytes(spec(Role::down, 32, 32, DataType::float32)), std::invalid_argument);
}

TEST(N150Memory, recordings_give_a_tile_s_rows_of_float32_logits) {
  EXPECT_EQ(recorded_logits_bytes(32064), dealt(1002, 4096));
  EXPECT_EQ(recorded_logits_bytes(33), dealt(2, 4096));
}

TEST(N150Memory, a_page_of_the_cache_is_64_tokens_of_each_head_and_pages_come_in_eights) {
  const CacheSpec layers{{{4, 256, 1024}, {4, 256, {}}, {32, 96, {}}}};
  const std::array<int64_t, 2> pages{5, 70};
  EXPECT_EQ(cache_bytes(layers, DataType::bfloat16, pages),
            2 * (dealt(8 * 4 * 16, 2048) + dealt(72 * 4 * 16, 2048) + dealt(72 * 32 * 6, 2048)));
  EXPECT_EQ(cache_bytes(layers, DataType::bfloat8_b, pages),
            2 * (dealt(8 * 4 * 16, 1088) + dealt(72 * 4 * 16, 1088) + dealt(72 * 32 * 6, 1088)));
  EXPECT_EQ(limits().page_tokens, 64);
}

TEST(N150Memory, a_forward_s_own_tensors_are_bfloat16) {
  EXPECT_EQ(working_bytes(512, 35840, 262208),
            dealt(tiles(512, 35840), 2048) + dealt(tiles(32, 262208), 2048) + dealt(32, 2 * 262208) + kPrograms);
  EXPECT_EQ(kMemory, 12'872'318'208u);
}

}  // namespace
}  // namespace tessera::n150

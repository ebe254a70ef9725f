#include "core/block_float.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <stdexcept>

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr DataType kFormats[] = {DataType::bfloat8_b, DataType::bfloat4_b};

struct Block {
  uint8_t exponent;
  std::array<uint8_t, 16> codes;
};

// A block that starts with the given values; zeros follow.
template <class... Values>
Block encode(DataType format, Values... values) {
  const std::array<float, 16> all{static_cast<float>(values)...};
  Block block;
  block.exponent = encode_block(format, all, block.codes);
  return block;
}

// The value of a code, from its definition.
double value_of(int bits, int exponent, int code) {
  const int magnitude = code & ((1 << bits) - 1);
  return std::ldexp(code >> bits ? -magnitude : magnitude, exponent - 127 - (bits - 1));
}

TEST(BlockFloat, values_share_the_largest_exponent) {
  const Block block = encode(DataType::bfloat8_b, 1.0f, -0.5f, 1.984375f, 0.015625f, -1.0f);
  EXPECT_EQ(block.exponent, 127);
  EXPECT_EQ(block.codes[0], 64);
  EXPECT_EQ(block.codes[1], 0x80 | 32);
  EXPECT_EQ(block.codes[2], 127);
  EXPECT_EQ(block.codes[3], 1);
  EXPECT_EQ(block.codes[4], 0x80 | 64);
  EXPECT_EQ(block.codes[5], 0);
  const Block four = encode(DataType::bfloat4_b, 1.0f, -0.5f, 1.75f, 0.25f, -1.0f);
  EXPECT_EQ(four.exponent, 127);
  EXPECT_EQ(four.codes, (std::array<uint8_t, 16>{4, 8 | 2, 7, 1, 8 | 4}));
}

TEST(BlockFloat, rounds_to_nearest_even_and_never_to_the_next_exponent) {
  const float unit = 1.0f / 64;
  const Block block =
      encode(DataType::bfloat8_b, 1.0f, 2.5f * unit, 3.5f * unit, 0.5f * unit, 0.50001f * unit, -1.49f * unit, 127.9f * unit);
  EXPECT_EQ(block.codes, (std::array<uint8_t, 16>{64, 2, 4, 0, 1, 0x81, 127}));
  EXPECT_EQ(encode(DataType::bfloat8_b, 1.999f).codes[0], 127);  // not 2.0
  EXPECT_EQ(encode(DataType::bfloat4_b, 1.999f).codes[0], 7);
}

TEST(BlockFloat, bits_shifted_out_below_a_floats_own_mantissa_do_not_break_a_tie) {
  const float unit = 1.0f / 64;  // 0.5 and a little, whose last bits are dropped when it is aligned to 1.0
  EXPECT_EQ(encode(DataType::bfloat8_b, 1.0f, std::nextafter(0.5f * unit, 1.0f)).codes[1], 0);
}

TEST(BlockFloat, zeros_and_denormals_are_zero_and_have_no_sign) {
  for (DataType format : kFormats) {
    const Block block = encode(format, 0.0f, -0.0f, std::numeric_limits<float>::denorm_min(), -1e-39f);
    EXPECT_EQ(block.exponent, 0);
    EXPECT_EQ(block.codes, (std::array<uint8_t, 16>{}));
    EXPECT_EQ(encode(format, 1.0f, -1e-9f).codes[1], 0);
  }
}

TEST(BlockFloat, infinities_and_nans_keep_their_kind) {
  for (DataType format : kFormats) {
    const Block block = encode(format, kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 1.0f, 0x1p127f);
    EXPECT_EQ(block.exponent, 255);
    EXPECT_EQ(decode_block(format, 255, block.codes[0]), kInfinity);
    EXPECT_EQ(decode_block(format, 255, block.codes[1]), -kInfinity);
    EXPECT_TRUE(std::isnan(decode_block(format, 255, block.codes[2])));
    EXPECT_EQ(decode_block(format, 255, block.codes[3]), 0.0f);
    EXPECT_EQ(decode_block(format, 255, block.codes[4]), 0x1p127f);
  }
}

TEST(BlockFloat, every_code_has_the_value_of_its_definition_and_is_a_bfloat16) {
  for (DataType format : kFormats) {
    const int bits = magnitude_bits(format);
    for (int exponent = 0; exponent < 255; ++exponent)
      for (int code = 0; code < 2 << bits; ++code) {
        const float value = decode_block(format, static_cast<uint8_t>(exponent), static_cast<uint8_t>(code));
        ASSERT_EQ(value, value_of(bits, exponent, code)) << exponent << " " << code;
        ASSERT_EQ(round_to_bfloat16(value), value);
      }
  }
}

TEST(BlockFloat, a_decoded_block_encodes_to_itself) {
  std::mt19937 random(1);
  for (DataType format : kFormats) {
    const int bits = magnitude_bits(format);
    for (int trial = 0; trial < 2000; ++trial) {
      Block block{static_cast<uint8_t>(8 + random() % 246), {}};
      for (uint8_t& code : block.codes) {
        code = static_cast<uint8_t>(random() % (2u << bits));
        if ((code & ((1 << bits) - 1)) == 0) code = 0;
      }
      block.codes[5] |= static_cast<uint8_t>(1 << (bits - 1));  // some value has the shared exponent
      std::array<float, 16> values;
      for (size_t i = 0; i < 16; ++i) values[i] = decode_block(format, block.exponent, block.codes[i]);
      std::array<uint8_t, 16> codes;
      EXPECT_EQ(encode_block(format, values, codes), block.exponent);
      EXPECT_EQ(codes, block.codes);
    }
  }
}

TEST(BlockFloat, other_types_are_refused) {
  EXPECT_THROW(magnitude_bits(DataType::bfloat16), std::invalid_argument);
  EXPECT_THROW(encode(DataType::float32, 1.0f), std::invalid_argument);
}

}  // namespace
}  // namespace tessera

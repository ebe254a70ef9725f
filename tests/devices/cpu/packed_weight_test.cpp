#include "cpu/packed_weight.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/block_float.h"

namespace tessera::cpu {
namespace {

constexpr DataType kFormats[] = {DataType::float32, DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b};

WeightPart block_of(const std::vector<float>& values, int64_t rows) {
  return {reinterpret_cast<const std::byte*>(values.data()), StoredType::float32, rows};
}

// Any bits, denormals, zeros, huge and non-finite values among ordinary ones.
std::vector<float> unusual_values(size_t count) {
  std::mt19937 random(3);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(random());
    const size_t kind = i / 3000 % 6;  // the same kind for a while, so that whole blocks are of it
    const uint32_t kinds[6] = {bits,
                               (bits & 0x80FFFFFFu) | 0x3C000000u,
                               bits & 0x807FFFFFu,
                               bits & 0x84FFFFFFu,
                               (bits & 0x81FFFFFFu) | 0x7E000000u,
                               random() % 3 ? bits & 0x80000000u : (bits & 0x83FF8000u) | 0x3C000000u};
    values[i] = std::bit_cast<float>(kinds[kind]);
  }
  return values;
}

class PackedOnEveryIsa : public testing::TestWithParam<Isa> {};

TEST_P(PackedOnEveryIsa, packs_the_bytes_of_plain_cpp) {
  ThreadPool one(1), pool(3);
  const std::vector<float> values = unusual_values(333 * 210);
  const WeightPart source = block_of(values, 333);
  for (DataType format : kFormats) {
    const PackedWeight plain = PackedWeight::pack(one, Isa::plain, format, std::span(&source, 1), 210);
    const PackedWeight weight = PackedWeight::pack(pool, GetParam(), format, std::span(&source, 1), 210);
    ASSERT_EQ(weight.bytes(), plain.bytes());
    EXPECT_EQ(0, std::memcmp(weight.panel(0), plain.panel(0), plain.bytes())) << format;
  }
}

TEST_P(PackedOnEveryIsa, is_restored_from_its_bytes_and_from_no_others) {
  ThreadPool pool(1);
  const std::vector<float> values = unusual_values(333 * 210);
  const WeightPart source = block_of(values, 333);
  for (DataType format : kFormats) {
    const PackedWeight weight = PackedWeight::pack(pool, GetParam(), format, std::span(&source, 1), 210);
    const auto file = std::make_shared<std::vector<std::byte>>(weight.data().begin(), weight.data().end());
    const auto restore = [&](DataType type, int64_t out, int64_t in, size_t bytes) {
      return PackedWeight::restore(type, out, in, {file, file->data()}, bytes, {});
    };
    const auto restored = restore(format, 333, 210, file->size());
    ASSERT_TRUE(restored) << format;
    std::vector<float> row(210), expected(210);
    for (int64_t o = 0; o < 333; ++o) {
      weight.lookup(o, expected.data());
      restored->lookup(o, row.data());
      ASSERT_EQ(0, std::memcmp(row.data(), expected.data(), row.size() * sizeof(float))) << format << ", row " << o;
    }
    EXPECT_FALSE(restore(format, 333, 210, file->size() - 1)) << format;
    EXPECT_FALSE(restore(format, 333, 300, file->size())) << format;
    EXPECT_FALSE(restore(format, 400, 210, file->size())) << format;
  }
}

TEST_P(PackedOnEveryIsa, a_rows_values_can_be_looked_up) {
  ThreadPool pool(1);
  const int64_t out = 333, in = 210;
  const std::vector<float> values = unusual_values(out * in);
  const WeightPart source = block_of(values, out);
  for (DataType format : kFormats) {
    const PackedWeight weight = PackedWeight::pack(pool, GetParam(), format, std::span(&source, 1), in);
    std::vector<float> row(in);
    std::vector<bfloat16> narrow(in);
    for (int64_t o = 0; o < out; ++o) {
      weight.lookup(o, row.data());
      weight.lookup(o, narrow.data());
      for (int64_t i = 0; i < in; ++i) {
        float expected = values[o * in + i];
        if (format == DataType::bfloat16) expected = round_to_bfloat16(expected);
        if (format == DataType::bfloat8_b || format == DataType::bfloat4_b) {
          float block[16] = {};
          uint8_t codes[16];
          for (int64_t j = 0; j < std::min<int64_t>(16, out - o / 16 * 16); ++j) block[j] = values[(o / 16 * 16 + j) * in + i];
          const uint8_t exponent = encode_block(format, block, codes);
          expected = exponent < 7 ? 0.0f : decode_block(format, exponent, codes[o % 16]);
        }
        ASSERT_EQ(std::bit_cast<uint32_t>(row[i]), std::bit_cast<uint32_t>(expected)) << format << " [" << o << ", " << i << "]";
        ASSERT_EQ(narrow[i].bits, to_bfloat16(expected).bits);
      }
    }
  }
}

TEST_P(PackedOnEveryIsa, sources_of_every_stored_type_at_odd_addresses_are_joined) {
  ThreadPool pool(2);
  const int64_t in = 70;
  std::mt19937 random(9);
  std::vector<std::byte> memory(1 + 200 * in * 4);
  std::vector<WeightPart> sources;
  std::vector<float> expected;
  std::byte* next = memory.data() + 1;
  for (auto [type, rows] :
       {std::pair{StoredType::float16, int64_t{50}}, {StoredType::bfloat16, 3}, {StoredType::float32, 80}, {StoredType::float16, 1}}) {
    sources.push_back({next, type, rows});
    for (int64_t i = 0; i < rows * in; ++i, next += bytes_of(type)) {
      const uint32_t bits = static_cast<uint32_t>(random());
      std::memcpy(next, &bits, bytes_of(type));
      expected.push_back(load_stored(type, next, 0));
    }
  }
  const PackedWeight weight = PackedWeight::pack(pool, GetParam(), DataType::float32, sources, in);
  ASSERT_EQ(weight.out(), 134);
  ASSERT_EQ(weight.dtype(), DataType::float32);
  std::vector<float> row(in);
  for (int64_t o = 0; o < 134; ++o) {
    weight.lookup(o, row.data());
    ASSERT_EQ(0, std::memcmp(row.data(), expected.data() + o * in, in * sizeof(float))) << o;
  }
}

INSTANTIATE_TEST_SUITE_P(cpu, PackedOnEveryIsa, testing::ValuesIn(supported_isas()),
                         [](const auto& isa) { return std::string(name(isa.param)); });

TEST(PackedWeight, float32_that_is_exact_in_bfloat16_is_stored_so) {
  ThreadPool pool(2);
  std::vector<float> values(100 * 70, 1.5f);
  const WeightPart source = block_of(values, 100);
  EXPECT_EQ(PackedWeight::pack(pool, Isa::plain, DataType::float32, std::span(&source, 1), 70).dtype(), DataType::bfloat16);
  values.back() = 1.0f + 0x1p-20f;
  EXPECT_EQ(PackedWeight::pack(pool, Isa::plain, DataType::float32, std::span(&source, 1), 70).dtype(), DataType::float32);
}

TEST(PackedWeight, takes_no_more_memory_than_its_format_needs) {
  ThreadPool pool(1);
  const std::vector<float> values(128 * 192, 0.1f);
  const WeightPart source = block_of(values, 128);
  const size_t expected[] = {128 * 192 * 4, 128 * 192 * 2, 128 * 192 * 17 / 16, 128 * 192 * 9 / 16};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(PackedWeight::pack(pool, Isa::plain, kFormats[i], std::span(&source, 1), 192).bytes(), expected[i]);
}

TEST(PackedWeight, impossible_sizes_are_refused_before_anything_is_read) {
  ThreadPool pool(1);
  const float value = 0;
  const auto pack = [&](DataType dtype, int64_t rows, int64_t in) {
    const WeightPart source{reinterpret_cast<const std::byte*>(&value), StoredType::bfloat16, rows};
    return PackedWeight::pack(pool, Isa::plain, dtype, std::span(&source, rows == -2 ? 0 : 1), in);
  };
  const int64_t huge = std::numeric_limits<int64_t>::max();
  for (auto [rows, in] : {std::pair<int64_t, int64_t>{0, 1}, {1, 0}, {-1, 1}, {1, -1}, {-2, 1}, {huge, 1}, {1, huge}})
    EXPECT_THROW(pack(DataType::bfloat16, rows, in), std::invalid_argument) << rows << " " << in;
  EXPECT_THROW(pack(DataType::int32, 1, 1), std::invalid_argument);
  EXPECT_THROW(pack(DataType::bfloat16, int64_t{1} << 32, int64_t{1} << 32), std::runtime_error);
}

}  // namespace
}  // namespace tessera::cpu

#include "ops/rotary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/stored_type.h"

namespace tessera {
namespace {

constexpr double kEps = 0x1p-24, kEpsBf16 = 0x1p-8;  // half an ulp of float32 and of bfloat16
constexpr int64_t kHalf = 128;

Rotary rotary(float attention_factor) {
  Rotary made;
  made.dim = 2 * kHalf;
  made.attention_factor = attention_factor;
  made.inverse_frequencies = linear_frequencies(made.dim, 1e6, 1.0);
  return made;
}

TEST(rotary_rows, are_the_cosines_of_float32_angles_far_out_too) {
  ThreadPool pool(2);
  const std::vector<TokenId> tokens(28);
  const Batch::Slice slices[] = {{nullptr, 0, 1, 0, 0, 1}, {nullptr, 1, 20, 4090, 0, 4110}, {nullptr, 21, 7, 131065, 0, 131072}};
  const Batch batch{tokens, slices};
  for (const float factor : {1.0f, 1.1902380714f})
    for (const DataType type : {DataType::float32, DataType::bfloat16}) {
      const Rotary turned = rotary(factor);
      const RotaryRows rows = rotary_rows(pool, batch, turned, type, 32);
      ASSERT_EQ(rows.cos.size(), 32u * kHalf);
      const double rounding = type == DataType::float32 ? 0 : kEpsBf16;
      for (const Batch::Slice& slice : slices)
        for (int64_t token = 0; token < slice.count; ++token)
          for (int64_t i = 0; i < kHalf; ++i) {
            const long double angle = static_cast<float>(slice.position + token) * turned.inverse_frequencies[static_cast<size_t>(i)];
            const auto at = static_cast<size_t>((slice.first + token) * kHalf + i);
            EXPECT_NEAR(rows.cos[at], static_cast<double>(std::cos(angle)) * factor, factor * (2 * kEps + rounding));
            EXPECT_NEAR(rows.sin[at], static_cast<double>(std::sin(angle)) * factor, factor * (2 * kEps + rounding));
            EXPECT_TRUE(type == DataType::float32 || rows.cos[at] == round_to_bfloat16(rows.cos[at]));
          }
      for (auto at = static_cast<size_t>(28 * kHalf); at < rows.cos.size(); ++at) EXPECT_TRUE(rows.cos[at] == 0 && rows.sin[at] == 0);
    }
}

TEST(rotary_rows, stay_float32_where_the_model_s_do) {
  ThreadPool pool(1);
  Rotary turned = rotary(1.0f);
  turned.rounds = false;
  const std::vector<TokenId> tokens(1);
  const Batch::Slice slices[] = {{nullptr, 0, 1, 5, 0, 6}};
  const RotaryRows rows = rotary_rows(pool, {tokens, slices}, turned, DataType::bfloat16, 1);
  EXPECT_FLOAT_EQ(rows.cos[0], std::cos(5.0f));
  EXPECT_NE(rows.cos[0], round_to_bfloat16(rows.cos[0]));
}

TEST(rotary_rows, grow_with_the_position_by_steps) {
  ThreadPool pool(1);
  Rotary turned = rotary(1.0f);
  turned.growth = 0.1;
  turned.growth_after = 16;
  const std::vector<TokenId> tokens(4);
  const Batch::Slice slices[] = {{nullptr, 0, 2, 15, 0, 17}, {nullptr, 2, 1, 31, 0, 32}, {nullptr, 3, 1, 1000, 0, 1001}};
  const RotaryRows rows = rotary_rows(pool, {tokens, slices}, turned, DataType::float32, 4);
  const double factors[] = {1, 1 + 0.1 * std::log(2.0), 1 + 0.1 * std::log(2.0), 1 + 0.1 * std::log(63.0)};
  const double positions[] = {15, 16, 31, 1000};
  for (size_t token = 0; token < 4; ++token)
    EXPECT_NEAR(rows.cos[token * kHalf], std::cos(positions[token]) * factors[token], 3 * kEps * factors[token]) << token;
}

TEST(rotary_rows, take_the_frequencies_of_each_slices_length) {
  ThreadPool pool(1);
  Rotary turned = rotary(1.0f);
  turned.long_after = 100;
  turned.long_inverse_frequencies.assign(kHalf, 0.5f);
  const std::vector<TokenId> tokens(2);
  const Batch::Slice slices[] = {{nullptr, 0, 1, 1, 0, 100}, {nullptr, 1, 1, 1, 0, 101}};
  const RotaryRows rows = rotary_rows(pool, {tokens, slices}, turned, DataType::float32, 2);
  EXPECT_FLOAT_EQ(rows.cos[0], std::cos(1.0f));
  EXPECT_FLOAT_EQ(rows.cos[kHalf], std::cos(0.5f));
}

}  // namespace
}  // namespace tessera

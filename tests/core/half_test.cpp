#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tessera {
namespace {

// The definition of binary16, in double: sign * fraction * 2^exponent.
double value_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(half, every_finite_value_is_the_one_that_the_format_defines) {
  int finite = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    if (((bits >> 10) & 31) == 31) continue;
    const float got = to_float(float16{static_cast<uint16_t>(bits)});
    ASSERT_EQ(static_cast<double>(got), value_by_definition(static_cast<uint16_t>(bits))) << "bits " << bits;
    ASSERT_EQ(std::signbit(got), bits >= 32768) << "bits " << bits;
    ++finite;
  }
  EXPECT_EQ(finite, 65536 - 2 * 1024);
}

TEST(half, infinities_and_nans_keep_their_sign_and_kind) {
  EXPECT_EQ(to_float(float16{0x7C00}), INFINITY);
  EXPECT_EQ(to_float(float16{0xFC00}), -INFINITY);
  for (uint32_t fraction = 1; fraction < 1024; ++fraction) {
    const uint32_t bits = std::bit_cast<uint32_t>(to_float(float16{static_cast<uint16_t>(0xFC00u | fraction)}));
    ASSERT_EQ(bits, 0xFF800000u | (fraction << 13));
  }
}

}  // namespace
}  // namespace tessera

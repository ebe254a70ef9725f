#include "core/data_type.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace tessera {
namespace {

TEST(bfloat16, rounds_to_nearest_even) {
  EXPECT_EQ(to_bfloat16(1.0f).bits, 0x3F80);
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3F808000u)).bits, 0x3F80);  // halfway, even below
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3F818000u)).bits, 0x3F82);  // halfway, even above
  EXPECT_EQ(to_bfloat16(std::bit_cast<float>(0x3F808001u)).bits, 0x3F81);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7F80);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7F800001u)))));
}

TEST(data_type, names_parse_back) {
  for (DataType dtype : {DataType::float32, DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b})
    EXPECT_EQ(parse_data_type(name(dtype)), dtype);
  EXPECT_THROW(parse_data_type("float16"), std::invalid_argument);
  EXPECT_THROW(parse_data_type("int32"), std::invalid_argument);
}

}  // namespace
}  // namespace tessera

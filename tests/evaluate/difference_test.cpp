#include "evaluate/difference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace tessera {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Pair {
  std::vector<float> a, b;
};

Pair random_pair(size_t count, float middle, float noise) {
  std::mt19937 random(static_cast<uint32_t>(count));
  std::normal_distribution<float> values(middle, 3), errors(0, noise);
  Pair pair;
  for (size_t i = 0; i < count; ++i) {
    pair.b.push_back(values(random));
    pair.a.push_back(pair.b.back() + errors(random));
  }
  return pair;
}

Difference of(const Pair& pair, size_t width, DataType coarser = DataType::float32) {
  Difference difference(coarser);
  for (size_t at = 0; at < pair.a.size(); at += width)
    difference.add(std::span(pair.a).subspan(at, width), std::span(pair.b).subspan(at, width));
  return difference;
}

// Pearson's correlation by its definition.
long double correlation(std::span<const float> a, std::span<const float> b) {
  long double mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
  for (size_t i = 0; i < a.size(); ++i) mean_a += a[i], mean_b += b[i];
  mean_a /= static_cast<long double>(a.size());
  mean_b /= static_cast<long double>(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
    ab += (a[i] - mean_a) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

// The distance to the next value of the type away from zero.
double gap(float value, DataType type) {
  if (type == DataType::float32) return std::nextafter(std::abs(value), kInfinity) - static_cast<double>(std::abs(value));
  const uint32_t bits = std::bit_cast<uint32_t>(std::abs(value)) & 0xFFFF0000u;
  return static_cast<double>(std::bit_cast<float>(bits + 0x10000u)) - std::bit_cast<float>(bits);
}

TEST(Difference, every_measure_is_that_of_a_plain_loop_over_all_values) {
  for (const size_t width : {1, 31, 32, 33, 255})
    for (const size_t rows : {1, 7})
      for (const DataType type : {DataType::float32, DataType::bfloat16}) {
        const Pair pair = random_pair(width * rows, 0.5f, 0.05f);
        const Difference difference = of(pair, width, type);
        double most = 0, squares = 0, reference = 0, ulps = 0, most_ulps = 0;
        size_t at = 0;
        for (size_t i = 0; i < pair.a.size(); ++i) {
          const double apart = std::abs(static_cast<double>(pair.a[i]) - pair.b[i]);
          if (apart > most) at = i;
          most = std::max(most, apart);
          squares += apart * apart;
          reference += static_cast<double>(pair.b[i]) * pair.b[i];
          const double in_ulps = apart / gap(std::max(std::abs(pair.a[i]), std::abs(pair.b[i])), type);
          ulps += in_ulps;
          most_ulps = std::max(most_ulps, in_ulps);
        }
        EXPECT_EQ(difference.max_difference(), most);
        EXPECT_EQ(difference.max_row(), static_cast<int64_t>(at / width));
        EXPECT_NEAR(difference.relative_error(), std::sqrt(squares / reference), 1e-12);
        EXPECT_NEAR(difference.mean_ulps(), ulps / static_cast<double>(pair.a.size()), 1e-9 * ulps);
        EXPECT_DOUBLE_EQ(difference.max_ulps(), most_ulps);
        if (pair.a.size() > 1) {
          EXPECT_NEAR(difference.pcc(), static_cast<double>(correlation(pair.a, pair.b)), 1e-12) << width << " x " << rows;
        }
        for (size_t row = 0; row < rows && width > 1; ++row) {
          const auto a = std::span(pair.a).subspan(row * width, width), b = std::span(pair.b).subspan(row * width, width);
          EXPECT_NEAR(difference.rows()[row].pcc(), static_cast<double>(correlation(a, b)), 1e-7);
        }
      }
}

TEST(Difference, a_large_common_offset_costs_no_digits) {
  const Pair pair = random_pair(6400, 1e4f, 0.5f);
  EXPECT_NEAR(of(pair, 64).pcc(), static_cast<double>(correlation(pair.a, pair.b)), 1e-12);
}

TEST(Difference, rows_that_are_all_alike_correlate_when_they_are_equal) {
  const std::vector<float> zeros(8, 0.0f), ones(8, 1.0f);
  Difference difference(DataType::float32);
  difference.add(ones, ones);
  EXPECT_EQ(difference.pcc(), 1);
  EXPECT_EQ(difference.relative_error(), 0);
  difference.add(zeros, ones);
  EXPECT_EQ(difference.rows()[0].pcc(), 1);
  EXPECT_EQ(difference.rows()[1].pcc(), 0);
  EXPECT_EQ(difference.pcc(), 0);
  EXPECT_EQ(difference.worst_row(), 1);
  difference = Difference(DataType::float32);
  difference.add(ones, zeros);
  EXPECT_EQ(difference.relative_error(), kInfinity);
}

TEST(Difference, a_place_that_is_finite_on_one_side_alone_is_broken) {
  const std::vector<float> reference{1, kInfinity, kNan, 4, 5, -kInfinity};
  Difference difference(DataType::float32);
  difference.add(reference, reference);
  EXPECT_EQ(difference.broken(), 0);
  EXPECT_EQ(difference.pcc(), 1);
  difference.add(std::vector<float>{1, 2, kNan, 4, 5, kInfinity}, reference);
  EXPECT_EQ(difference.broken(), 2);
  EXPECT_EQ(difference.pcc(), 0);
  EXPECT_EQ(difference.rows()[0].pcc(), 1);
  EXPECT_EQ(difference.rows()[1].pcc(), 0);
  EXPECT_EQ(difference.max_difference(), 0);
  EXPECT_EQ(difference.first_row_below(0.5), 1);
}

TEST(Difference, the_first_and_the_worst_row_are_found) {
  const std::vector<float> b{1, 2, 3, 4}, near{1, 2, 3.5f, 4}, far{4, 1, 3, 2};
  Difference difference(DataType::bfloat16);
  EXPECT_FALSE(difference.worst_row());
  difference.add(b, b);
  difference.add(near, b);
  difference.add(far, b);
  difference.add(near, b);
  EXPECT_EQ(difference.worst_row(), 2);
  EXPECT_EQ(difference.first_row_below(0.999), 1);
  EXPECT_EQ(difference.first_row_below(0.5), 2);
  EXPECT_FALSE(difference.first_row_below(-1));
}

TEST(Difference, an_ulp_is_the_gap_between_neighbours_down_to_the_smallest) {
  for (const float value : {1.0f, 1.5f, -2.0f, 3e38f, 1e-38f, 1.2e-38f, 0.1f}) {
    EXPECT_EQ(ulp(value, DataType::float32), gap(value, DataType::float32)) << value;
    EXPECT_EQ(ulp(value, DataType::bfloat16), gap(value, DataType::bfloat16)) << value;
  }
  EXPECT_EQ(ulp(0, DataType::float32), std::numeric_limits<float>::denorm_min());
}

}  // namespace
}  // namespace tessera

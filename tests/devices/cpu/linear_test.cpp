#include "cpu/linear.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/block_float.h"
#include "thinned.h"

namespace tessera::cpu {
namespace {

// Random weights and rows of a linear, and what they are after rounding to the weight's format.
struct Problem {
  int64_t out, in, rows;
  std::vector<float> weight, x;  // x is exact in bfloat16 if bfloat16_x
  std::vector<float> bias;       // of each output, or empty

  Problem(int64_t outputs, int64_t inputs, int64_t row_count, bool bfloat16_x)
      : out(outputs), in(inputs), rows(row_count), weight(out * in), x(rows * in) {
    std::mt19937 random(static_cast<uint32_t>(out * 7919 + in * 31 + rows));
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (float& w : weight) w = normal(random) * 0.05f * std::exp2(static_cast<float>(random() % 9) - 4.0f);
    for (float& value : x) {
      value = normal(random) * std::exp2(static_cast<float>(random() % 5));
      if (bfloat16_x) value = round_to_bfloat16(value);
    }
  }

  PackedWeight pack(ThreadPool& pool, Isa isa, DataType dtype) const {
    WeightPart source{reinterpret_cast<const std::byte*>(weight.data()), StoredType::float32, out};
    if (!bias.empty()) source.bias = {reinterpret_cast<const std::byte*>(bias.data()), StoredType::float32};
    return PackedWeight::pack(pool, isa, dtype, std::span(&source, 1), in);
  }

  // The weight after rounding, by core's scalar functions alone.
  std::vector<float> rounded(DataType dtype) const {
    std::vector<float> w = weight;
    if (dtype == DataType::bfloat16)
      for (float& value : w) value = round_to_bfloat16(value);
    if (dtype == DataType::bfloat8_b || dtype == DataType::bfloat4_b)
      for (int64_t o = 0; o < out; o += 16)
        for (int64_t i = 0; i < in; ++i) {
          float values[16] = {};
          uint8_t codes[16];
          for (int64_t j = 0; j < std::min<int64_t>(16, out - o); ++j) values[j] = weight[(o + j) * in + i];
          const uint8_t exponent = encode_block(dtype, values, codes);
          for (int64_t j = 0; j < std::min<int64_t>(16, out - o); ++j) w[(o + j) * in + i] = decode_block(dtype, exponent, codes[j]);
        }
    return w;
  }
};

std::vector<uint16_t> bfloat16_bits(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (float value : values) bits.push_back(to_bfloat16(value).bits);
  return bits;
}

// y of rows [first, first + rows) as float32 (exact for a bfloat16 y).
std::vector<float> run(ThreadPool& pool, Isa isa, const PackedWeight& weight, const Problem& problem, DataType x_type, DataType y_type,
                       int64_t first, int64_t rows) {
  const std::vector<uint16_t> narrow = bfloat16_bits(problem.x);
  const int64_t in = problem.in, out = problem.out, y_stride = out + 3;
  const InputRows x = x_type == DataType::float32 ? InputRows{problem.x.data() + first * in, x_type, in}
                                                  : InputRows{narrow.data() + first * in, x_type, in};
  std::vector<float> y(rows * y_stride, -7.0f), result(rows * out);
  std::vector<uint16_t> y_narrow(rows * y_stride, 0x4141);
  linear(pool, isa, weight, rows, x,
         {y_type == DataType::float32 ? static_cast<void*>(y.data()) : static_cast<void*>(y_narrow.data()), y_type, y_stride});
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t o = 0; o < out; ++o)
      result[row * out + o] = y_type == DataType::float32 ? y[row * y_stride + o] : to_float(bfloat16{y_narrow[row * y_stride + o]});
    for (int64_t o = out; o < y_stride; ++o)  // nothing is written beside a row
      EXPECT_TRUE(y_type == DataType::float32 ? y[row * y_stride + o] == -7.0f : y_narrow[row * y_stride + o] == 0x4141);
  }
  return result;
}

using Size = std::pair<int64_t, int64_t>;
constexpr DataType kFormats[] = {DataType::float32, DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b};
constexpr DataType kRowTypes[] = {DataType::float32, DataType::bfloat16};

class LinearOnEveryIsa : public testing::TestWithParam<Isa> {};

TEST_P(LinearOnEveryIsa, a_row_has_the_same_bits_whatever_the_rows_beside_it_and_the_threads) {
  for (DataType x_type : kRowTypes) {
    const Problem problem(200, 1156, 512, x_type == DataType::bfloat16);
    ThreadPool one(1);
    for (DataType format : kFormats) {
      const PackedWeight weight = problem.pack(one, GetParam(), format);
      ASSERT_EQ(weight.dtype(), format);
      const std::vector<float> all = run(one, GetParam(), weight, problem, x_type, DataType::float32, 0, 512);
      for (int threads : {1, 2, 4}) {
        ThreadPool pool(threads);
        for (auto [first, rows] : thinned<Size>({{0, 1},
                                                 {13, 1},
                                                 {511, 1},
                                                 {3, 2},
                                                 {3, 3},
                                                 {3, 4},
                                                 {3, 5},
                                                 {2, 6},
                                                 {9, 7},
                                                 {100, 8},
                                                 {31, 13},
                                                 {64, 64},
                                                 {200, 300},
                                                 {0, 512}},
                                                5)) {
          const std::vector<float> some = run(pool, GetParam(), weight, problem, x_type, DataType::float32, first, rows);
          EXPECT_EQ(0, std::memcmp(some.data(), all.data() + first * problem.out, some.size() * sizeof(float)))
              << format << " weights, " << x_type << " rows " << first << " + " << rows << ", " << threads << " threads";
        }
      }
    }
  }
}

// Exponents from one end to the other, zeros and denormals among them, and rows that are not finite beside finite ones.
TEST_P(LinearOnEveryIsa, a_row_has_the_same_bits_whatever_its_magnitudes) {
  Problem problem(64, 448, 24, false);
  std::mt19937 random(11);
  for (int64_t o = 0; o < problem.out; ++o)
    for (int64_t i = 0; i < problem.in; ++i)
      problem.weight[o * problem.in + i] *= std::exp2(static_cast<float>(i / 64 % 7 * 20) - 112.0f + static_cast<float>(random() % 3));
  for (int64_t row = 0; row < problem.rows; ++row)
    for (int64_t i = 0; i < problem.in; ++i) {
      float& x = problem.x[row * problem.in + i];
      const int kind = static_cast<int>(random() % 20);
      x = kind == 0 ? 0.0f : kind == 1 ? -0.0f : kind == 2 ? -1e-39f : x * std::exp2(static_cast<float>(row % 8 * 32) - 125.0f);
      if (row >= 20 && i == 17 * (row - 19)) x = row % 2 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
      x = round_to_bfloat16(x);
    }
  ThreadPool pool(1);
  for (DataType format : kFormats) {
    const PackedWeight weight = problem.pack(pool, GetParam(), format);
    for (DataType x_type : kRowTypes) {
      const std::vector<float> all = run(pool, GetParam(), weight, problem, x_type, DataType::float32, 0, problem.rows);
      for (int64_t rows : {1, 2, 4, 6, 7})
        for (int64_t first = 0; first + rows <= problem.rows; ++first) {
          const std::vector<float> some = run(pool, GetParam(), weight, problem, x_type, DataType::float32, first, rows);
          for (size_t i = 0; i < some.size(); ++i) {
            const float expected = all[first * problem.out + i];
            if (std::isnan(expected))
              ASSERT_TRUE(std::isnan(some[i]));
            else
              ASSERT_EQ(std::bit_cast<uint32_t>(some[i]), std::bit_cast<uint32_t>(expected))
                  << format << " " << x_type << " " << first << " + " << rows;
          }
        }
    }
  }
}

TEST_P(LinearOnEveryIsa, a_bias_is_added_to_the_float32_sum_before_the_one_rounding) {
  ThreadPool pool(2);
  for (DataType x_type : kRowTypes) {
    Problem plain(200, 130, 9, x_type == DataType::bfloat16), biased = plain;
    std::mt19937 random(3);
    for (int64_t o = 0; o < plain.out; ++o) biased.bias.push_back(std::uniform_real_distribution<float>(-158.0f, 158.0f)(random));
    for (DataType format : kFormats) {
      const PackedWeight weight = plain.pack(pool, GetParam(), format), with_bias = biased.pack(pool, GetParam(), format);
      for (int64_t rows : {1, 3, 9}) {
        const std::vector<float> sums = run(pool, GetParam(), weight, plain, x_type, DataType::float32, 0, rows);
        for (DataType y_type : kRowTypes) {
          const std::vector<float> y = run(pool, GetParam(), with_bias, biased, x_type, y_type, 0, rows);
          for (size_t i = 0; i < y.size(); ++i) {
            const float sum = sums[i] + biased.bias[i % static_cast<size_t>(plain.out)];
            ASSERT_EQ(y[i], y_type == DataType::float32 ? sum : round_to_bfloat16(sum)) << format << " " << x_type << " output " << i;
          }
        }
      }
    }
  }
}

// The largest distance to the exact sum: each float32 operation loses at most 2^-24 of a partial sum, which is at most the sum of the
// products' magnitudes. vdpbf16ps: two operations for each input pair. Else: a product and a sum for each input of a block of 64 (one if
// fused), then one sum for each block. 2^-120 stands for what vdpbf16ps takes as zero. Rounding to bfloat16 loses at most 2^-8 of the
// result.
double error_bound(Isa isa, DataType format, DataType x_type, DataType y_type, int64_t in, double magnitude, double exact) {
  const bool pairs = isa == Isa::avx512 && x_type == DataType::bfloat16 && format != DataType::float32;
  const double operations = pairs ? static_cast<double>(in + in % 2) : static_cast<double>(2 * std::min<int64_t>(in, 64) + (in + 63) / 64);
  const double sum = operations * 0x1p-24 * 1.001 * magnitude + 0x1p-120;
  return y_type == DataType::float32 ? sum : sum + (std::abs(exact) + sum) * 0x1.01p-8;
}

void expect_a_float64_loop(Isa isa, ThreadPool& pool, DataType format, DataType x_type, const Problem& problem) {
  const PackedWeight weight = problem.pack(pool, isa, format);
  const std::vector<float> rounded = problem.rounded(weight.dtype());
  for (DataType y_type : kRowTypes) {
    const std::vector<float> y = run(pool, isa, weight, problem, x_type, y_type, 0, problem.rows);
    for (int64_t row = 0; row < problem.rows; ++row)
      for (int64_t o = 0; o < problem.out; ++o) {
        double exact = 0, magnitude = 0;
        for (int64_t i = 0; i < problem.in; ++i) {
          const double product = static_cast<double>(problem.x[row * problem.in + i]) * rounded[o * problem.in + i];
          exact += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(y[row * problem.out + o], exact, error_bound(isa, format, x_type, y_type, problem.in, magnitude, exact))
            << format << " weight [" << problem.out << ", " << problem.in << "], " << x_type << " row " << row << ", " << y_type
            << " output " << o;
      }
  }
}

TEST_P(LinearOnEveryIsa, matches_a_float64_loop) {
  ThreadPool pool(2);
  for (DataType format : kFormats)
    for (DataType x_type : kRowTypes)
      for (int64_t out : {1, 31, 32, 33, 255})
        for (int64_t in : {1, 31, 32, 33, 255})
          for (int64_t rows : thinned<int64_t>({1, 5, 33}, 2))
            expect_a_float64_loop(GetParam(), pool, format, x_type, Problem(out, in, rows, x_type == DataType::bfloat16));
}

// Inputs of a block that lie far apart, and inputs and weights that are all as large as their exponents allow, of one sign.
TEST_P(LinearOnEveryIsa, matches_a_float64_loop_whatever_lies_side_by_side) {
  ThreadPool pool(2);
  std::mt19937 random(3);
  for (int octaves : {8, 16, 30, 60})
    for (int64_t rows : {1, 9}) {
      Problem spread(70, 256, rows, true);
      for (float& x : spread.x)
        x *= random() % 8 == 0 ? 0.0f : std::exp2(static_cast<float>(random() % octaves) - static_cast<float>(octaves / 2));
      Problem steep = spread;
      for (int64_t i = 0; i < steep.out * steep.in; ++i)
        if (i % steep.in % 16 == 5) steep.weight[i] *= std::exp2(static_cast<float>(-octaves / 2 + i % steep.in / 16));
      Problem largest(70, 256, rows, true);
      for (float& x : largest.x) x = 255.0f / 128 * std::exp2(static_cast<float>(octaves - 30));
      for (float& w : largest.weight) w = 127.0f / 64;
      for (DataType format : kFormats)
        for (DataType x_type : kRowTypes)
          for (const Problem* problem : {&spread, &steep, &largest}) expect_a_float64_loop(GetParam(), pool, format, x_type, *problem);
    }
}

// Small whole numbers are exact in every format, and so are their products and sums: any mistake shows.
TEST_P(LinearOnEveryIsa, whole_numbers_give_exact_sums_at_the_models_sizes) {
  ThreadPool pool(2);
  for (auto [in, out] : thinned<Size>({{640, 2048}, {640, 4096}, {2048, 640}, {2560, 10240}, {10240, 2560}, {3072, 9216}}, 4)) {
    Problem problem(1, 1, 1, true);
    const int64_t rows = in * out > 10'000'000 ? 7 : 33;
    problem.out = out, problem.in = in, problem.rows = rows;
    problem.weight.resize(out * in);
    problem.x.resize(rows * in);
    std::mt19937 random(5);
    for (float& w : problem.weight) w = static_cast<float>(random() % 15) - 7.0f;
    for (float& x : problem.x) x = static_cast<float>(random() % 15) - 7.0f;
    std::vector<float> exact(rows * out);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t o = 0; o < out; ++o) {
        float sum = 0;
        for (int64_t i = 0; i < in; ++i) sum += problem.x[row * in + i] * problem.weight[o * in + i];
        exact[row * out + o] = sum;
      }
    for (DataType format : {DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b}) {
      const PackedWeight weight = problem.pack(pool, GetParam(), format);
      for (DataType x_type : kRowTypes)
        for (int64_t count : {int64_t{1}, rows}) {
          const std::vector<float> y = run(pool, GetParam(), weight, problem, x_type, DataType::float32, 0, count);
          EXPECT_EQ(0, std::memcmp(y.data(), exact.data(), y.size() * sizeof(float)))
              << format << " [" << out << ", " << in << "], " << x_type;
        }
    }
  }
}

TEST_P(LinearOnEveryIsa, a_non_finite_weight_or_input_gives_a_non_finite_output_where_it_belongs) {
  ThreadPool pool(1);
  for (DataType format : kFormats)
    for (DataType x_type : kRowTypes)
      for (int64_t rows : {1, 9})
        for (float special : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
          Problem problem(40, 70, rows, true);
          problem.weight[37 * 70 + 69] = special;
          std::vector<float> y =
              run(pool, GetParam(), problem.pack(pool, GetParam(), format), problem, x_type, DataType::bfloat16, 0, rows);
          for (int64_t o = 0; o < 40; ++o) EXPECT_EQ(o != 37, std::isfinite(y[o])) << format << " " << x_type << " " << o;
          Problem other(40, 70, rows, true);
          other.x[69] = special;
          y = run(pool, GetParam(), other.pack(pool, GetParam(), format), other, x_type, DataType::bfloat16, 0, rows);
          for (int64_t o = 0; o < 40; ++o) EXPECT_FALSE(std::isfinite(y[o]));
          for (size_t i = 40; i < y.size(); ++i) EXPECT_TRUE(std::isfinite(y[i]));
        }
}

TEST(Linear, refuses_what_does_not_fit) {
  ThreadPool pool(1);
  const PackedWeight weight = Problem(40, 70, 1, true).pack(pool, Isa::plain, DataType::bfloat16);
  std::vector<float> x(70), y(40);
  EXPECT_THROW(linear(pool, Isa::plain, weight, 1, {x.data(), DataType::float32, 69}, {y.data(), DataType::float32, 40}),
               std::invalid_argument);
  EXPECT_THROW(linear(pool, Isa::plain, weight, 1, {x.data(), DataType::float32, 70}, {y.data(), DataType::float32, 39}),
               std::invalid_argument);
  EXPECT_THROW(linear(pool, Isa::plain, weight, -1, {x.data(), DataType::float32, 70}, {y.data(), DataType::float32, 40}),
               std::invalid_argument);
  EXPECT_THROW(linear(pool, Isa::plain, weight, 1, {x.data(), DataType::bfloat8_b, 70}, {y.data(), DataType::float32, 40}),
               std::invalid_argument);
  linear(pool, Isa::plain, weight, 0, {nullptr, DataType::float32, 70}, {nullptr, DataType::float32, 40});
}

INSTANTIATE_TEST_SUITE_P(cpu, LinearOnEveryIsa, testing::ValuesIn(supported_isas()),
                         [](const auto& isa) { return std::string(name(isa.param)); });

}  // namespace
}  // namespace tessera::cpu

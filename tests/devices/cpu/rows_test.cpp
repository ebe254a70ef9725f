#include "cpu/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace tessera::cpu {
namespace {

constexpr double kEps = 0x1p-24;     // half an ulp of float32
constexpr double kEpsBf16 = 0x1p-8;  // half an ulp of bfloat16

struct Case {
  Isa isa;
  DataType type;
};

void PrintTo(const Case& c, std::ostream* out) { *out << name(c.isa) << " " << c.type; }

// A buffer of rows with a gap between tokens, which no op may touch.
struct Buffer {
  Buffer(DataType dtype, int64_t tokens, int64_t heads, int64_t width, int64_t gap = 3)
      : type(dtype), rows{nullptr, dtype, tokens, heads, width, heads * width + gap, width} {
    const auto count = static_cast<size_t>(tokens * rows.token_stride);
    bytes.assign(count * (type == DataType::float32 ? 4 : 2), std::byte{0xA5});
    rows.data = bytes.data();
  }
  Buffer(const Buffer&) = delete;

  double get(int64_t token, int64_t head, int64_t i) const {
    return type == DataType::float32 ? rows.row<float>(token, head)[i] : to_float(rows.row<bfloat16>(token, head)[i]);
  }
  void set(int64_t token, int64_t head, int64_t i, float x) {
    if (type == DataType::float32)
      rows.row<float>(token, head)[i] = x;
    else
      rows.row<bfloat16>(token, head)[i] = to_bfloat16(x);
  }
  void fill(uint32_t seed, float scale) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    for (int64_t t = 0; t < rows.tokens; ++t)
      for (int64_t h = 0; h < rows.heads; ++h)
        for (int64_t i = 0; i < rows.width; ++i) set(t, h, i, normal(random));
  }
  bool gaps_untouched() const {
    const size_t size = type == DataType::float32 ? 4 : 2;
    for (int64_t t = 0; t < rows.tokens; ++t)
      for (int64_t i = rows.heads * rows.width; i < rows.token_stride; ++i)
        for (size_t b = 0; b < size; ++b)
          if (bytes[static_cast<size_t>(t * rows.token_stride + i) * size + b] != std::byte{0xA5}) return false;
    return true;
  }

  DataType type;
  Rows rows;
  std::vector<std::byte> bytes;
};

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

class EveryIsaAndType : public testing::TestWithParam<Case> {
 protected:
  Isa isa() const { return GetParam().isa; }
  DataType type() const { return GetParam().type; }
  // Compares every number of `out` with want(token, head, i); `slack` is the float32 arithmetic's own error, beside the rounding.
  template <class Want, class Slack>
  void expect_close(const Buffer& out, Want want, Slack slack) {
    const double rounding = type() == DataType::float32 ? kEps : kEpsBf16;
    for (int64_t t = 0; t < out.rows.tokens; ++t)
      for (int64_t h = 0; h < out.rows.heads; ++h)
        for (int64_t i = 0; i < out.rows.width; ++i) {
          const double expected = want(t, h, i);
          ASSERT_NEAR(out.get(t, h, i), expected, slack(t, h, i) + (std::abs(expected) + slack(t, h, i)) * rounding)
              << "token " << t << " head " << h << " column " << i << " of " << out.rows.width;
        }
    EXPECT_TRUE(out.gaps_untouched());
  }

  ThreadPool pool_{2};
};

constexpr int64_t kWidths[] = {1, 2, 7, 31, 32, 33, 255, 640, 2560};

TEST_P(EveryIsaAndType, rms_norm_matches_a_float64_loop) {
  for (int64_t width : kWidths)
    for (int64_t tokens : {1, 33}) {
      Buffer x(type(), tokens, 2, width), y(type(), tokens, 2, width);
      x.fill(1, 3.0f);
      const std::vector<float> weight = random_floats(static_cast<size_t>(width), 2);
      rms_norm(pool_, isa(), x.rows, weight, 1e-6f, y.rows);
      std::vector<double> sums(static_cast<size_t>(2 * tokens));
      for (size_t row = 0; row < sums.size(); ++row)
        for (int64_t j = 0; j < width; ++j) sums[row] += std::pow(x.get(static_cast<int64_t>(row) / 2, row % 2, j), 2);
      const auto want = [&](int64_t t, int64_t h, int64_t i) {
        const double mean = sums[static_cast<size_t>(2 * t + h)] / static_cast<double>(width);
        return x.get(t, h, i) / std::sqrt(mean + 1e-6f) * weight[static_cast<size_t>(i)];
      };
      // The sum of squares has at most width / 8 + 16 roundings in a row, halved by the root; six more behind it.
      const auto relative = (static_cast<double>(width) / 16 + 14) * kEps;
      expect_close(y, want, [&](int64_t t, int64_t h, int64_t i) { return std::abs(want(t, h, i)) * relative; });
    }
}

TEST_P(EveryIsaAndType, rotary_embedding_matches_a_float64_loop) {
  for (auto [width, half] : {std::pair<int64_t, int64_t>{2, 1}, {64, 32}, {96, 48}, {96, 36}, {256, 128}, {62, 31}, {8, 0}})
    for (int64_t tokens : {1, 31, 255}) {
      Buffer x(type(), tokens, 3, width), y(type(), tokens, 3, width);
      x.fill(3, 2.0f);
      const std::vector<float> cos = random_floats(static_cast<size_t>(tokens * half), 4), sin = random_floats(cos.size(), 5);
      rotary_embedding(pool_, isa(), x.rows, cos.data(), sin.data(), half, y.rows);
      const auto terms = [&](int64_t t, int64_t h, int64_t i) -> std::pair<double, double> {
        if (i >= 2 * half) return {x.get(t, h, i), 0};
        const auto at = static_cast<size_t>(t * half + i % half);
        return {x.get(t, h, i) * cos[at], i < half ? -x.get(t, h, i + half) * sin[at] : x.get(t, h, i - half) * sin[at]};
      };
      const auto want = [&](int64_t t, int64_t h, int64_t i) { return terms(t, h, i).first + terms(t, h, i).second; };
      const auto slack = [&](int64_t t, int64_t h, int64_t i) {
        return (std::abs(terms(t, h, i).first) + std::abs(terms(t, h, i).second)) * kEps * 2;
      };
      expect_close(y, want, slack);
      rotary_embedding(pool_, isa(), x.rows, cos.data(), sin.data(), half, x.rows);
      EXPECT_EQ(x.bytes, y.bytes) << "in place";
    }
}

TEST_P(EveryIsaAndType, add_and_mul_round_the_exact_result_once) {
  for (int64_t width : kWidths) {
    Buffer a(type(), 33, 1, width), b(type(), 33, 1, width, 9), sum(type(), 33, 1, width), product(type(), 33, 1, width);
    a.fill(6, 1.0f), b.fill(7, 1.0f);
    add(pool_, isa(), a.rows, b.rows, sum.rows);
    mul(pool_, isa(), a.rows, 25.25f, product.rows);
    const auto rounded = [&](double x) {
      const auto once = static_cast<float>(x);
      return static_cast<double>(type() == DataType::float32 ? once : round_to_bfloat16(once));
    };
    for (int64_t t = 0; t < 33; ++t)
      for (int64_t i = 0; i < width; ++i) {
        ASSERT_EQ(sum.get(t, 0, i), rounded(a.get(t, 0, i) + b.get(t, 0, i)));
        ASSERT_EQ(product.get(t, 0, i), rounded(a.get(t, 0, i) * 25.25));
      }
    EXPECT_TRUE(sum.gaps_untouched() && product.gaps_untouched());
    add(pool_, isa(), a.rows, b.rows, a.rows);
    for (int64_t t = 0; t < 33; ++t)
      for (int64_t i = 0; i < width; ++i) ASSERT_EQ(a.get(t, 0, i), sum.get(t, 0, i)) << "in place";
  }
}

TEST_P(EveryIsaAndType, gelu_mul_and_silu_mul_match_a_float64_loop) {
  for (int64_t width : kWidths)
    for (int64_t tokens : {1, 32}) {
      Buffer x(type(), tokens, 1, 2 * width), gelu(type(), tokens, 1, width), silu(type(), tokens, 1, width);
      x.fill(8, 4.0f);
      gelu_mul(pool_, isa(), x.rows, gelu.rows);
      silu_mul(pool_, isa(), x.rows, silu.rows);
      const auto gate = [&](int64_t t, int64_t i) { return x.get(t, 0, i); };
      const auto up = [&](int64_t t, int64_t i) { return x.get(t, 0, width + i); };
      const auto gelu_of = [](double g) { return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))); };
      // Absolute in gate * up, for the plain form 1 + tanh cancels below 0; relative where the exponent's own rounding counts.
      const auto slack = [&](int64_t t, int64_t, int64_t i) { return std::abs(gate(t, i) * up(t, i)) * 6 * kEps; };
      expect_close(gelu, [&](int64_t t, int64_t, int64_t i) { return gelu_of(gate(t, i)) * up(t, i); }, slack);
      expect_close(silu, [&](int64_t t, int64_t, int64_t i) { return gate(t, i) / (1 + std::exp(-gate(t, i))) * up(t, i); }, slack);
    }
}

TEST_P(EveryIsaAndType, relu2_matches_a_float64_loop) {
  for (int64_t width : kWidths) {
    Buffer x(type(), 33, 1, width), y(type(), 33, 1, width);
    x.fill(12, 4.0f);
    relu2(pool_, isa(), x.rows, y.rows);
    expect_close(
        y, [&](int64_t t, int64_t h, int64_t i) { return std::pow(std::max(x.get(t, h, i), 0.0), 2); },
        [](int64_t, int64_t, int64_t) { return 0.0; });
  }
}

TEST_P(EveryIsaAndType, activations_are_right_over_their_whole_range) {
  std::vector<float> gates;
  for (float magnitude = 1e-30f; magnitude < 1e30f; magnitude *= 1.7f) gates.insert(gates.end(), {magnitude, -magnitude});
  gates.insert(gates.end(), {0.0f, -0.0f, 88.0f, -88.0f, 89.0f, -104.0f, std::numeric_limits<float>::infinity()});
  const auto width = static_cast<int64_t>(gates.size());
  Buffer x(type(), 1, 1, 2 * width), gelu(type(), 1, 1, width), silu(type(), 1, 1, width), g(type(), 1, 1, width),
      capped(type(), 1, 1, width);
  for (int64_t i = 0; i < width; ++i) {
    g.set(0, 0, i, gates[static_cast<size_t>(i)]);
    x.set(0, 0, i, gates[static_cast<size_t>(i)]);
    x.set(0, 0, width + i, 1.0f);
  }
  gelu_mul(pool_, isa(), x.rows, gelu.rows);
  silu_mul(pool_, isa(), x.rows, silu.rows);
  softcap(pool_, isa(), g.rows, 30.0f, capped.rows);
  const double rounding = type() == DataType::float32 ? kEps : kEpsBf16;
  for (int64_t i = 0; i < width; ++i) {
    const double v = x.get(0, 0, i), inner = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
    const double want_gelu = std::isinf(v) ? v : 0.5 * v * (1 + std::tanh(inner)), want_silu = std::isinf(v) ? v : v / (1 + std::exp(-v));
    const auto bound = [&](double want) { return std::abs(want) * (rounding + 6 * kEps) + 1e-38; };
    if (std::isinf(v)) {
      EXPECT_EQ(gelu.get(0, 0, i), v);
      EXPECT_EQ(silu.get(0, 0, i), v);
    } else {
      EXPECT_NEAR(gelu.get(0, 0, i), want_gelu, bound(want_gelu) + std::min(std::abs(v), 20.0) * 3 * kEps) << v;
      EXPECT_NEAR(silu.get(0, 0, i), want_silu, bound(want_silu) + std::min(std::abs(want_silu * v), 1.0) * 2 * kEps) << v;
    }
    EXPECT_NEAR(capped.get(0, 0, i), 30 * std::tanh(v / 30), bound(30 * std::tanh(v / 30))) << v;
  }
}

TEST_P(EveryIsaAndType, a_value_depends_neither_on_its_place_nor_on_the_rows_width) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0, 3);
  for (int trial = 0; trial < 200; ++trial) {
    const float value = normal(random), up = normal(random);
    std::vector<double> seen[3];
    for (int64_t width : {1, 5, 16, 37})
      for (int64_t place = 0; place < width; ++place) {
        Buffer x(type(), 1, 1, 2 * width), y(type(), 1, 1, width);
        x.fill(static_cast<uint32_t>(trial), 2.0f);
        x.set(0, 0, place, value), x.set(0, 0, width + place, up);
        gelu_mul(pool_, isa(), x.rows, y.rows), seen[0].push_back(y.get(0, 0, place));
        silu_mul(pool_, isa(), x.rows, y.rows), seen[1].push_back(y.get(0, 0, place));
        Buffer z(type(), 1, 1, 2 * width);
        softcap(pool_, isa(), x.rows, 5.0f, z.rows), seen[2].push_back(z.get(0, 0, place));
      }
    for (const auto& values : seen)
      for (double v : values) ASSERT_EQ(v, values[0]);
  }
}

TEST_P(EveryIsaAndType, a_row_gives_the_same_bits_alone_and_among_many_on_any_threads) {
  constexpr int64_t kTokens = 200, kWidth = 640;
  Buffer x(type(), kTokens, 1, kWidth);
  x.fill(10, 1.0f);
  const std::vector<float> weight = random_floats(kWidth, 11);
  std::vector<std::byte> first;
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    Buffer y(type(), kTokens, 1, kWidth, 0);
    rms_norm(pool, isa(), x.rows, weight, 1e-6f, y.rows);
    if (first.empty()) first = y.bytes;
    EXPECT_EQ(y.bytes, first);
    Buffer one(type(), 1, 1, kWidth, 0);
    ConstRows alone = x.rows;
    alone.tokens = 1, alone.data = x.bytes.data() + 77 * x.rows.token_stride * (type() == DataType::float32 ? 4 : 2);
    rms_norm(pool, isa(), alone, weight, 1e-6f, one.rows);
    EXPECT_EQ(std::memcmp(one.bytes.data(), y.bytes.data() + 77 * one.bytes.size(), one.bytes.size()), 0);
  }
}

TEST_P(EveryIsaAndType, a_nan_stays_a_nan_in_its_own_place) {
  constexpr int64_t kWidth = 37;
  for (int64_t place : {0, 16, 36}) {
    Buffer x(type(), 1, 1, 2 * kWidth), y(type(), 1, 1, kWidth), z(type(), 1, 1, 2 * kWidth);
    x.fill(12, 1.0f);
    x.set(0, 0, place, std::numeric_limits<float>::quiet_NaN());
    for (int op = 0; op < 3; ++op) {
      if (op == 0) gelu_mul(pool_, isa(), x.rows, y.rows);
      if (op == 1) silu_mul(pool_, isa(), x.rows, y.rows);
      if (op == 2) softcap(pool_, isa(), x.rows, 30.0f, z.rows);
      for (int64_t i = 0; i < kWidth; ++i) EXPECT_EQ(std::isnan(op == 2 ? z.get(0, 0, i) : y.get(0, 0, i)), i == place) << op;
    }
  }
}

std::vector<Case> every_case() {
  std::vector<Case> cases;
  for (Isa isa : supported_isas())
    for (DataType type : {DataType::float32, DataType::bfloat16}) cases.push_back({isa, type});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(rows, EveryIsaAndType, testing::ValuesIn(every_case()),
                         [](const auto& c) { return std::string(name(c.param.isa)) + "_" + std::string(name(c.param.type)); });

class EveryIsa : public testing::TestWithParam<Isa> {
 protected:
  ThreadPool pool_{2};
};

TEST_P(EveryIsa, float32_rounds_to_bfloat16_as_the_scalar_function_does) {
  std::vector<float> values = random_floats(1000, 13);
  for (uint32_t bits = 0; bits < 0xFFFF0000u; bits += 0x00007FFFu)
    values.push_back(std::bit_cast<float>(bits));  // ties, denormals, infinities, NaNs
  const auto n = static_cast<int64_t>(values.size());
  std::vector<uint16_t> narrow(values.size());
  std::vector<float> wide(values.size());
  convert(pool_, GetParam(), dense_rows(values.data(), DataType::float32, 1, n), dense_rows(narrow.data(), DataType::bfloat16, 1, n));
  convert(pool_, GetParam(), dense_rows(narrow.data(), DataType::bfloat16, 1, n), dense_rows(wide.data(), DataType::float32, 1, n));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(narrow[i], to_bfloat16(values[i]).bits) << values[i];
    ASSERT_EQ(std::bit_cast<uint32_t>(wide[i]), static_cast<uint32_t>(narrow[i]) << 16);
  }
}

TEST_P(EveryIsa, select_rows_takes_the_rows_asked_for_and_converts_them) {
  Buffer x(DataType::bfloat16, 9, 1, 37), same(DataType::bfloat16, 3, 1, 37), wide(DataType::float32, 3, 1, 37);
  x.fill(15, 1.0f);
  const std::vector<int64_t> rows{8, 0, 8};
  select_rows(pool_, GetParam(), x.rows, rows, same.rows);
  select_rows(pool_, GetParam(), x.rows, rows, wide.rows);
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t i = 0; i < 37; ++i) {
      EXPECT_EQ(same.get(t, 0, i), x.get(rows[static_cast<size_t>(t)], 0, i));
      EXPECT_EQ(wide.get(t, 0, i), x.get(rows[static_cast<size_t>(t)], 0, i));
    }
  EXPECT_THROW(select_rows(pool_, GetParam(), x.rows, std::vector<int64_t>{0, 9, 1}, same.rows), std::invalid_argument);
}

TEST_P(EveryIsa, shapes_and_types_that_disagree_are_refused) {
  Buffer x(DataType::float32, 4, 1, 8), y(DataType::float32, 4, 1, 7), z(DataType::bfloat16, 4, 1, 8);
  EXPECT_THROW(add(pool_, GetParam(), x.rows, x.rows, y.rows), std::invalid_argument);
  EXPECT_THROW(mul(pool_, GetParam(), x.rows, 2.0f, z.rows), std::invalid_argument);
  EXPECT_THROW(gelu_mul(pool_, GetParam(), x.rows, y.rows), std::invalid_argument);
  EXPECT_THROW(rms_norm(pool_, GetParam(), x.rows, std::vector<float>(7), 1e-6f, x.rows), std::invalid_argument);
  EXPECT_THROW(rotary_embedding(pool_, GetParam(), x.rows, nullptr, nullptr, 5, x.rows), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(rows, EveryIsa, testing::ValuesIn(supported_isas()), [](const auto& isa) { return std::string(name(isa.param)); });

}  // namespace
}  // namespace tessera::cpu

// Card mode against float64 loops that round where the card does, by digits and not by bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/card_attention.h"
#include "cpu/cpu_device.h"
#include "cpu/rows.h"
#include "generate/cache.h"
#include "ops/model.h"
#include "ops/ops.h"

namespace tessera::cpu {
namespace {

constexpr int kBf16 = 8, kTf32 = 11;  // significant binary digits

// x with so many digits: `round` takes what is left of the point.
template <class Round>
double with_digits(double x, int digits, Round round) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return x == 0 ? 0 : std::ldexp(round(std::ldexp(x, digits - exponent)), exponent - digits);
}
double cut(double x, int digits) {
  return with_digits(x, digits, [](double y) { return std::trunc(y); });
}
double away(double x, int digits = kBf16) {
  return with_digits(x, digits, [](double y) { return std::round(y); });
}
double even(double x) {
  return with_digits(x, kBf16, [](double y) { return std::nearbyint(y); });
}
// Two bfloat16 numbers in the matrix unit.
double added(double a, double b) {
  int exponent = 0;
  std::frexp(std::max(std::abs(a), std::abs(b)), &exponent);
  const auto part = [&](double x) { return std::ldexp(std::round(std::ldexp(x, kTf32 - exponent)), exponent - kTf32); };
  return away(part(a) + part(b));
}

struct Numbers {
  Numbers(int64_t tokens, int64_t heads, int64_t width, uint32_t seed = 0, double scale = 1)
      : rows{nullptr, DataType::bfloat16, tokens, heads, width, heads * width, width}, values(static_cast<size_t>(tokens * heads * width)) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, scale);
    for (bfloat16& value : values) value = to_bfloat16(static_cast<float>(normal(random)));
    rows.data = values.data();
  }
  Numbers(const Numbers&) = delete;
  double get(int64_t token, int64_t head, int64_t i) const { return to_float(rows.row<bfloat16>(token, head)[i]); }

  Rows rows;
  std::vector<bfloat16> values;
};

// The share of `out` that is want(token, head, i), all of which are next to it.
template <class Want>
double equal_share(const Numbers& out, Want want) {
  double equal = 0;
  for (int64_t t = 0; t < out.rows.tokens; ++t)
    for (int64_t h = 0; h < out.rows.heads; ++h)
      for (int64_t i = 0; i < out.rows.width; ++i) {
        const double expected = want(t, h, i);
        equal += out.get(t, h, i) == expected;
        EXPECT_NEAR(out.get(t, h, i), expected, std::abs(expected) / 127 + 1e-6) << t << " " << h << " " << i;
      }
  return equal / static_cast<double>(out.values.size());
}

class Card : public testing::Test {
 protected:
  ThreadPool pool_{2};
};

TEST_F(Card, rms_norm_reads_and_keeps_float32_as_tf32) {
  constexpr int64_t kWidth = 640;
  Numbers x(40, 2, kWidth, 1, 3), out(40, 2, kWidth);
  std::vector<float> weight(kWidth);
  std::mt19937 random(2);
  for (float& w : weight) w = std::normal_distribution<float>(1, 0.3f)(random);
  rms_norm(pool_, Isa::card, x.rows, weight, 1e-6f, out.rows);
  const auto factor = [&](int64_t t, int64_t h) {
    double sum = 0;
    for (int64_t i = 0; i < kWidth; ++i) sum += cut(x.get(t, h, i) * x.get(t, h, i), kTf32);
    return cut(1 / std::sqrt(cut(cut(sum / kWidth, kTf32) + 1e-6, kTf32)), kTf32);
  };
  EXPECT_GT(equal_share(out,
                        [&](int64_t t, int64_t h, int64_t i) {
                          return away(cut(x.get(t, h, i) * factor(t, h), kTf32 - 1) * cut(weight[static_cast<size_t>(i)], kTf32));
                        }),
            0.99);
}

TEST_F(Card, add_and_rotary_embedding_round_as_the_matrix_unit_does) {
  Numbers a(33, 1, 255, 3), b(33, 1, 255, 4), sum(33, 1, 255);
  add(pool_, Isa::card, a.rows, b.rows, sum.rows);
  EXPECT_EQ(equal_share(sum, [&](int64_t t, int64_t h, int64_t i) { return added(a.get(t, h, i), b.get(t, h, i)); }), 1);

  constexpr int64_t kTokens = 31, kHalf = 48;
  Numbers x(kTokens, 3, 2 * kHalf, 5), turned(kTokens, 3, 2 * kHalf);
  std::vector<float> cos, sin;
  for (int i = 0; i < kTokens * kHalf; ++i) {
    cos.push_back(std::cos(0.37f * static_cast<float>(i)));
    sin.push_back(std::sin(0.37f * static_cast<float>(i)));
  }
  rotary_embedding(pool_, Isa::card, x.rows, cos.data(), sin.data(), kHalf, turned.rows);
  EXPECT_EQ(equal_share(turned,
                        [&](int64_t t, int64_t h, int64_t i) {
                          const auto at = static_cast<size_t>(t * kHalf + i % kHalf);
                          const double other = i < kHalf ? -x.get(t, h, i + kHalf) : x.get(t, h, i - kHalf);
                          return added(away(x.get(t, h, i) * even(cos[at])), away(other * even(sin[at])));
                        }),
            1);
}

TEST_F(Card, a_factor_is_whole_and_an_activation_is_rounded_before_its_product) {
  constexpr int64_t kWidth = 255;
  Numbers x(33, 1, 2 * kWidth, 6), scaled(33, 1, 2 * kWidth), gelu(33, 1, kWidth), silu(33, 1, kWidth);
  mul(pool_, Isa::card, x.rows, 1 / 30.0f, scaled.rows);
  EXPECT_EQ(equal_share(scaled, [&](int64_t t, int64_t h, int64_t i) { return even(static_cast<float>(x.get(t, h, i)) * (1 / 30.0f)); }),
            1);
  gelu_mul(pool_, Isa::card, x.rows, gelu.rows);
  silu_mul(pool_, Isa::card, x.rows, silu.rows);
  const auto product = [&](auto activation) {
    return [&x, activation](int64_t t, int64_t h, int64_t i) { return even(even(activation(x.get(t, h, i))) * x.get(t, h, kWidth + i)); };
  };
  // float32 may end on the other side of a middle.
  EXPECT_GT(equal_share(silu, product([](double g) { return g / (1 + std::exp(-g)); })), 0.998);
  EXPECT_GT(
      equal_share(gelu, product([](double g) { return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))); })),
      0.99);
}

// 2^round(log2) with the bits between two powers in a straight line, less what balances the error.
double schraudolph(double x) {
  const double steps = std::nearbyint(x * 256 / std::log(2.0) + 32500.818359375), octave = std::floor(steps / 256);
  return steps <= 0 ? 0 : std::ldexp(1 + steps / 256 - octave, static_cast<int>(octave) - 127);
}

struct Attended {
  double off_card, off_exact;  // relative distances from the card's formula and from attention itself
};

// 300 tokens of one sequence as chunks of 100, or one by one behind a chunk of 250.
Attended attended(int64_t heads, bool decode, std::optional<int64_t> window) {
  constexpr int64_t kTokens = 300, kDim = 96;
  constexpr float kScale = 0.1f;
  ThreadPool pool(2);
  KvCache cache({{{2, kDim, window}}}, DataType::bfloat16, std::array{int64_t{16}});
  PageTable table;
  for (int32_t page = 0; page < 10; ++page) table.pages.push_back((7 * page + 3) % 16);
  Numbers q(kTokens, heads, kDim, 8), k(kTokens, 2, kDim, 9), v(kTokens, 2, kDim, 10), out(kTokens, heads, kDim);
  const CacheSlice all{0, kTokens, 0, &table};
  cache.append(pool, 0, std::span(&all, 1), k.rows, v.rows);
  std::vector<CacheSlice> slices;
  for (int64_t at = decode ? 250 : 0; at < kTokens; at += slices.back().count) slices.push_back({at, decode ? 1 : 100, at, &table});
  card_attention(pool, cache, slices, q.rows, out.rows, {.layer = 0, .scale = kScale, .window = window});

  double card = 0, exact = 0, size = 0;
  for (int64_t t = slices.front().first; t < kTokens; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv = h / (heads / 2), begin = window ? std::max<int64_t>(0, t - *window + 1) : 0, step = decode ? 256 : 128;
      const auto score = [&](int64_t key) {
        double sum = 0;
        for (int64_t i = 0; i < kDim; ++i) sum += q.get(t, h, i) * k.get(key, kv, i);
        return sum;
      };
      std::vector<double> sums(kDim), wanted(kDim);
      double total = 0, largest = -1e30, exact_total = 0;
      for (int64_t chunk = begin / step * step; chunk <= t; chunk += step) {
        std::vector<double> scores, part(kDim);
        double top = -1e30, weights = 0;
        const int64_t first = std::max(chunk, begin);
        for (int64_t key = first; key <= std::min(t, chunk + step - 1); ++key) {
          scores.push_back(decode ? away(score(key)) : cut(score(key), kTf32));
          top = std::max(top, scores.back());
        }
        if (!decode) top = std::max(largest, cut(top, kBf16));
        for (size_t j = 0; j < scores.size(); ++j) {
          const double x = (scores[j] - top) * kScale, power = decode && heads <= 16 ? schraudolph(x) : std::exp(x);
          const double weight = decode ? away(power) : cut(power, kTf32),
                       exact_weight = std::exp(score(first + static_cast<int64_t>(j)) * kScale);
          weights += weight;
          exact_total += exact_weight;
          for (int64_t i = 0; i < kDim; ++i) {
            part[static_cast<size_t>(i)] += weight * v.get(first + static_cast<int64_t>(j), kv, i);
            wanted[static_cast<size_t>(i)] += exact_weight * v.get(first + static_cast<int64_t>(j), kv, i);
          }
        }
        const double now = std::max(largest, top), keep = std::exp((largest - now) * kScale), take = std::exp((top - now) * kScale);
        largest = now;
        total = decode ? total * keep + away(weights) * take : total * away(keep) + weights;
        for (size_t i = 0; i < kDim; ++i)
          sums[i] = decode ? sums[i] * keep + away(part[i]) * take : away(away(part[i]) + away(sums[i] * away(keep)));
      }
      for (int64_t i = 0; i < kDim; ++i) {
        const auto at = static_cast<size_t>(i);
        const double expected = away(away(sums[at]) * (decode ? away(1 / away(total)) : 1 / total));
        card += std::pow(out.get(t, h, i) - expected, 2);
        exact += std::pow(out.get(t, h, i) - wanted[at] / exact_total, 2);
        size += std::pow(expected, 2);
      }
    }
  return {std::sqrt(card / size), std::sqrt(exact / size)};
}

TEST(CardAttention, rounds_between_its_steps_and_takes_the_approximate_exp_for_few_heads) {
  for (const std::optional<int64_t> window : {std::optional<int64_t>(), std::optional<int64_t>(70)}) {
    const Attended chunk = attended(4, false, window), few = attended(16, true, window), many = attended(18, true, window);
    EXPECT_LT(chunk.off_card, 5e-4);
    EXPECT_LT(few.off_card, 5e-4);
    EXPECT_LT(many.off_card, 5e-4);
    EXPECT_LT(chunk.off_exact, 5e-3);
    EXPECT_GT(few.off_exact, 1.2e-2);
    EXPECT_LT(many.off_exact, 8e-3);
  }
}

// Tokens' values, of 32, go through what a test says.
struct Told final : Model {
  explicit Told(std::function<Tensor(const Step&)> tells) : Model(make_spec()), told(std::move(tells)) {}
  static ModelSpec make_spec() {
    ModelSpec spec;
    spec.cache.layers = {{1, 32, std::nullopt}};
    return spec;
  }
  Tensor forward(const Step& step) const override { return told(step); }
  std::function<Tensor(const Step&)> told;
};

class CardDevice : public testing::Test {
 protected:
  static constexpr ModelOptions kBlocks{.weights = DataType::bfloat8_b, .cache = DataType::bfloat8_b};

  Tensor weight(Role role, int64_t out, int64_t in, const ModelOptions& options, std::function<float(int64_t, int64_t)> value) {
    std::vector<float> values;
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < in; ++i) values.push_back(value(o, i));
    const WeightPart part{reinterpret_cast<const std::byte*>(values.data()), StoredType::float32, out};
    return device_.pack(std::span(&part, 1), {.role = role, .shape = {1, 1, out, in}, .options = options}, {});
  }

  // The rows of a Batch of three tokens of one sequence, all wanted but the first, and one token of another.
  std::vector<float> run(const Model& model) {
    Cache cache(device_, model.spec().cache, {.dtype = DataType::bfloat8_b, .max_tokens = 256, .max_sequences = 2});
    const auto chunk = cache.create(), decode = cache.create();
    cache.reserve(*chunk, 0, 3), cache.reserve(*decode, 0, 1);
    const std::vector<TokenId> tokens{0, 1, 2, 3};
    const std::vector<Batch::Slice> slices{{chunk.get(), 0, 3, 0, 2, 3}, {decode.get(), 3, 1, 0, 1, 1}};
    const Tensor out = device_.run(model, {tokens, slices});
    std::vector<float> values(static_cast<size_t>(volume(out.shape())));
    device_.read(out, values);
    return values;
  }

  CpuDevice device_{{.threads = 2, .twin = Twin::card}};
};

TEST_F(CardDevice, a_chunk_s_linears_of_block_formats_do_not_see_the_lowest_bit) {
  const auto value = [](int64_t token, int64_t i) { return 1 + static_cast<float>(32 * token + i) / 128; };  // every significand
  for (const DataType type : {DataType::bfloat8_b, DataType::bfloat4_b, DataType::bfloat16}) {
    const ModelOptions options{.weights = type};
    const Tensor table = weight(Role::embedding, 4, 32, options, value);
    const auto negative = [](int64_t o, int64_t i) { return o == i ? -1.0f : 0.0f; };
    for (const Role role : {Role::output, Role::head}) {  // few rows of a chunk reach its head
      const Tensor linear = weight(role, 32, 32, options, negative);
      const auto out = run(Told([&](const Step& step) {
        const Tensor x = ops::embedding(step, table);
        return role == Role::head ? ops::linear(ops::select_rows(x, step), linear) : ops::select_rows(ops::linear(x, linear), step);
      }));
      for (int64_t row = 0; row < 3; ++row)
        for (int64_t i = 0; i < 32; ++i) {
          const bool sees_all = row == 2 || type == DataType::bfloat16 || role == Role::head;
          const double exact = value(row + 1, i), seen = sees_all ? exact : cut(exact, 7);
          ASSERT_EQ(out[static_cast<size_t>(32 * row + i)], -seen) << type << " row " << row << " column " << i;
        }
    }
  }
}

TEST_F(CardDevice, a_cache_of_blocks_rounds_as_the_packer_does) {
  const auto value = [](int64_t token, int64_t i) {
    return (i % 2 ? -1 : 1) * (i % 16 == 15 ? 1.5f : (1 + static_cast<float>(32 * token + i) / 128) / 4);
  };
  const Tensor table = weight(Role::embedding, 4, 32, kBlocks, value);
  // Every head is the token's values: 18 heads, so that one key weighs exactly 1.
  const Tensor qkv = weight(Role::qkv, 20 * 32, 32, {.weights = DataType::bfloat16},
                            [](int64_t o, int64_t i) { return o % 32 == i && o >= 18 * 32 ? 1.0f : 0.0f; });
  const Tensor identity =
      weight(Role::head, 32, 18 * 32, {.weights = DataType::bfloat16}, [](int64_t o, int64_t i) { return o == i ? 1.0f : 0.0f; });
  const auto out = run(Told([&](const Step& step) {
    const QkvHeads heads = ops::nlp_create_qkv_heads(ops::linear(ops::embedding(step, table), qkv), 18, 1);
    const Tensor seen = ops::attention(heads.q, heads.k, heads.v, step, {.layer = 0, .scale = 1, .window = 1});
    return ops::linear(ops::select_rows(ops::nlp_concat_heads(seen), step), identity);
  }));
  for (int64_t row = 0; row < 3; ++row)
    for (int64_t i = 0; i < 32; ++i) {
      const double x = row == 2 ? away(value(3, i), 7) : value(row + 1, i);
      ASSERT_EQ(out[static_cast<size_t>(32 * row + i)], std::round(x * 64) / 64) << "row " << row << " column " << i;
    }
}

TEST_F(CardDevice, refuses_what_a_card_does_not_take) {
  const auto of = [&](const ModelOptions& options) { return weight(Role::head, 32, 32, options, [](int64_t, int64_t) { return 1.0f; }); };
  EXPECT_THROW(of({.activations = DataType::float32}), std::invalid_argument);
  EXPECT_THROW(of({.weights = DataType::float32}), std::invalid_argument);
  EXPECT_THROW(device_.make_cache(Told::make_spec().cache, DataType::float32, std::array{int64_t{1}}), std::invalid_argument);
  EXPECT_THROW(parse_twin("gpu"), std::invalid_argument);
  EXPECT_EQ(parse_twin(std::nullopt), Twin::none);
}

}  // namespace
}  // namespace tessera::cpu

// Mixtures of experts on the cpu device, against a float64 loop of the same numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/cpu_device.h"
#include "cpu/experts.h"
#include "generate/cache.h"
#include "ops/model.h"
#include "ops/ops.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kHidden = 80, kInner = 48, kExperts = 6;  // no expert's outputs fill their panels of 64

std::vector<float> random_floats(size_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = round_to_bfloat16(normal(random));
  return values;
}

// Embeds the tokens, routes them, and gives what the experts make of them in place of logits.
class Mixture final : public Model {
 public:
  Mixture(Device& device, DataType activations, const RouterParams& params) : Model(make_spec()), params_(params) {
    const ModelOptions options{DataType::float32, activations, activations, DataType::float32};
    const auto pack = [&](const std::vector<float>& values, Role role, const Shape& shape, int64_t parts) {
      std::vector<WeightPart> all;
      const int64_t rows = shape[1] * shape[2] / parts;
      for (int64_t part = 0; part < parts; ++part)
        all.push_back({reinterpret_cast<const std::byte*>(values.data() + part * rows * shape[3]), StoredType::float32, rows});
      return device.pack(all, {.role = role, .shape = shape, .options = options}, {});
    };
    table_ = pack(table, Role::embedding, {1, 1, kVocab, kHidden}, 1);
    router_ = pack(router, Role::router, {1, 1, kExperts, kHidden}, 1);
    gate_up_ = pack(gate_up, Role::experts_gate_up, {1, kExperts, 2 * kInner, kHidden}, 2 * kExperts);
    down_ = pack(down, Role::experts_down, {1, kExperts, kHidden, kInner}, kExperts);
  }

  Tensor forward(const Step& step) const override {
    const Tensor x = ops::embedding(step, table_);
    return ops::select_rows(ops::experts(x, ops::linear(x, router_), gate_up_, down_, params_), step);
  }

  static constexpr int64_t kVocab = 40;
  const std::vector<float> table = random_floats(kVocab * kHidden, 1, 1), router = random_floats(kExperts * kHidden, 2, 0.3f),
                           gate_up = random_floats(kExperts * 2 * kInner * kHidden, 3, 0.2f),
                           down = random_floats(kExperts * kHidden * kInner, 4, 0.2f);

 private:
  static ModelSpec make_spec() {
    ModelSpec spec;
    spec.cache.layers = {{1, 32, std::nullopt}};
    return spec;
  }
  RouterParams params_;
  Tensor table_, router_, gate_up_, down_;
};

// And the sums of the terms' sizes, in units of what a rounding to bfloat16 of each number on the way may move them by.
struct Expected {
  std::vector<double> y, roundings;
};

Expected expected(const Mixture& m, TokenId token, const RouterParams& params) {
  const auto product = [](const float* row, const auto& x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(row[i]) * static_cast<double>(x[static_cast<size_t>(i)]);
    return sum;
  };
  const std::vector<double> x(m.table.begin() + token * kHidden, m.table.begin() + (token + 1) * kHidden);
  std::vector<double> p(kExperts);
  double largest_logit = 0;
  for (int64_t e = 0; e < kExperts; ++e) {
    const double logit = product(m.router.data() + e * kHidden, x, kHidden);
    largest_logit = std::max(largest_logit, std::abs(logit));
    p[static_cast<size_t>(e)] = std::exp(logit);
  }
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  std::vector<int64_t> order(kExperts);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)]; });
  order.resize(static_cast<size_t>(params.top_k));
  double chosen = 0;
  for (const int64_t e : order) chosen += p[static_cast<size_t>(e)] / all;
  Expected want{std::vector<double>(kHidden), std::vector<double>(kHidden)};
  for (const int64_t e : order) {
    std::vector<double> inner(kInner);
    for (int64_t i = 0; i < kInner; ++i) {
      const double gate = product(m.gate_up.data() + (e * 2 * kInner + i) * kHidden, x, kHidden);
      const double up = product(m.gate_up.data() + (e * 2 * kInner + kInner + i) * kHidden, x, kHidden);
      inner[static_cast<size_t>(i)] = gate / (1 + std::exp(-gate)) * up;
    }
    const double weight = p[static_cast<size_t>(e)] / all / (params.norm_topk_prob ? chosen : 1);
    for (int64_t i = 0; i < kHidden; ++i)
      for (int64_t j = 0; j < kInner; ++j) {
        const double term =
            weight * static_cast<double>(m.down[static_cast<size_t>((e * kHidden + i) * kInner + j)]) * inner[static_cast<size_t>(j)];
        want.y[static_cast<size_t>(i)] += term;
        // gate, up, their product, down's, the weight and what its logits' roundings make of it; and the sum.
        want.roundings[static_cast<size_t>(i)] += std::abs(term) * (6 + 2 * largest_logit);
      }
  }
  return want;
}

class ExpertsTest : public testing::TestWithParam<DataType> {
 protected:
  std::vector<float> run(Device& device, const Model& model, const std::vector<TokenId>& tokens) {
    Cache cache(device, model.spec().cache, {.dtype = DataType::bfloat16, .max_tokens = 1024, .max_sequences = 1});
    const auto sequence = cache.create();
    const auto count = static_cast<int64_t>(tokens.size());
    const Batch::Slice slice{sequence.get(), 0, count, 0, count, count};
    std::vector<float> out(tokens.size() * kHidden);
    device.read(device.run(model, {tokens, std::span(&slice, 1)}), out);
    return out;
  }
};

TEST_P(ExpertsTest, match_a_float64_loop_and_give_a_token_the_same_bits_alone_and_among_many) {
  std::vector<TokenId> tokens(Mixture::kVocab);
  std::iota(tokens.begin(), tokens.end(), 0);
  for (const Isa isa : supported_isas())
    for (const RouterParams params :
         {RouterParams{2, false}, RouterParams{3, true}, RouterParams{1, true}, RouterParams{kExperts, false}}) {
      CpuDevice device({.threads = 2, .isa = isa}), other({.threads = 1, .isa = isa});
      const Mixture mixture(device, GetParam(), params), same(other, GetParam(), params);
      const std::vector<float> all = run(device, mixture, tokens);
      for (const TokenId token : tokens) {
        const Expected want = expected(mixture, token, params);
        const double rounding = GetParam() == DataType::float32 ? 16 * 0x1p-24 : 0x1p-9;
        const std::vector<float> mine(all.begin() + token * kHidden, all.begin() + (token + 1) * kHidden);
        for (size_t i = 0; i < mine.size(); ++i)
          ASSERT_NEAR(mine[i], want.y[i], want.roundings[i] * rounding) << "token " << token << ", value " << i;
        ASSERT_EQ(run(other, same, {token}), mine) << "token " << token << " alone";
      }
    }
}

INSTANTIATE_TEST_SUITE_P(types, ExpertsTest, testing::Values(DataType::float32, DataType::bfloat16), testing::PrintToStringParamName());

TEST(route, gives_equal_logits_to_the_first_experts_and_nobody_to_those_without_tokens) {
  const std::vector<float> logits{1, 3, 3, 3, /**/ 5, 0, 0, 0};
  const std::vector<ExpertRows> routed = route(dense_rows(logits.data(), DataType::float32, 2, 4), {.top_k = 2, .norm_topk_prob = true});
  ASSERT_EQ(routed.size(), 3u);
  EXPECT_EQ(routed[0].expert, 0);
  EXPECT_THAT(routed[0].tokens, testing::ElementsAre(1));
  EXPECT_EQ(routed[1].expert, 1);
  EXPECT_THAT(routed[1].tokens, testing::ElementsAre(0, 1));
  EXPECT_THAT(routed[1].weights,
              testing::ElementsAre(0.5f, testing::FloatNear(static_cast<float>(std::exp(-5) / (1 + std::exp(-5))), 1e-7f)));
  EXPECT_EQ(routed[2].expert, 2);
  EXPECT_THAT(routed[2].weights, testing::ElementsAre(0.5f));
}

}  // namespace
}  // namespace tessera::cpu

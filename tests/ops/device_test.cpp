// What Device does for every device, shown on the cpu's: what it refuses, when it commits, whom it shows the ops.
#include "ops/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include "cpu/cpu_device.h"
#include "generate/cache.h"
#include "ops/model.h"
#include "ops/ops.h"

namespace tessera {
namespace {

using testing::ElementsAre;

constexpr int64_t kVocab = 16, kHidden = 64, kHeads = 2, kBoundary = 8;

// A model that computes what a test says.
struct Told final : Model {
  using Forward = std::function<Tensor(const Step&)>;
  explicit Told(Forward tells) : Model(make_spec()), told(std::move(tells)) {}
  static ModelSpec make_spec() {
    ModelSpec spec;
    spec.cache.layers = {{1, 32, std::nullopt}};
    spec.recompute_after = kBoundary;
    return spec;
  }
  Tensor forward(const Step& step) const override { return told(step); }
  Forward told;
};

struct Noted final : Observer {
  void begin() override { ++forwards; }
  void see(const Op& op, const Tensor& output) override {
    std::string text(op.name);
    if (!op.part.empty()) (text += '.') += op.part;
    if (op.weight) text += ' ' + op.weight->storage().label;
    text += ' ' + std::to_string(output.shape()[1]) + 'x' + std::to_string(output.shape()[3]);
    ops.push_back(text);
  }
  int forwards = 0;
  std::vector<std::string> ops;
};

class DeviceRun : public testing::Test {
 protected:
  Tensor weight(Role role, int64_t out, int64_t in, const std::string& label) {
    const std::vector<float> values(static_cast<size_t>(out * in), 0.125f);
    const WeightPart part{reinterpret_cast<const std::byte*>(values.data()), StoredType::float32, out};
    Tensor packed = device_.pack(std::span(&part, 1), {.role = role, .shape = {1, 1, out, in}, .options = kTypes}, {});
    packed.storage().label = label;
    return packed;
  }

  Tensor run(const Model& model, int64_t count, int64_t position, int64_t rope_length, int64_t logit_rows = 0) {
    const std::vector<TokenId> tokens(static_cast<size_t>(count), 3);
    const Batch::Slice slice{sequence_.get(), 0, count, position, logit_rows, rope_length};
    return device_.run(model, {tokens, std::span(&slice, 1)});
  }
  Tensor run(const Model& model) { return run(model, 2, 0, 2); }

  static constexpr ModelOptions kTypes{DataType::float32, DataType::float32, DataType::float32};
  cpu::CpuDevice device_{{.threads = 1}};
  Cache cache_{device_, Told::make_spec().cache, {.dtype = DataType::float32, .max_tokens = 1024, .max_sequences = 1}};
  std::unique_ptr<Sequence> sequence_ = cache_.create();
  int calls_ = 0;
  const Told counts_{[this](const Step&) {
    ++calls_;
    return Tensor();
  }};
  const Told throws_{[](const Step&) -> Tensor { throw std::runtime_error("out of order"); }};
};

TEST_F(DeviceRun, commits_behind_a_forward_and_nothing_when_it_throws) {
  EXPECT_THROW(run(throws_), std::runtime_error);
  EXPECT_EQ(sequence_->length(), 0);
  run(counts_, 5, 0, 7);
  EXPECT_EQ(sequence_->length(), 5);
  EXPECT_EQ(sequence_->rope_length(), 7);
  EXPECT_THROW(run(throws_, 1, 5, 6), std::runtime_error);
  EXPECT_EQ(sequence_->length(), 5);
  EXPECT_EQ(sequence_->rope_length(), 7);
}

TEST_F(DeviceRun, a_batch_that_is_refused_never_reaches_the_model) {
  const Limits limits = device_.limits();
  EXPECT_THROW(run(counts_, limits.max_rows + 1, 0, 1), std::invalid_argument);
  EXPECT_THROW(run(counts_, limits.max_logit_rows + 1, 0, 1, limits.max_logit_rows + 1), std::invalid_argument);
  EXPECT_THROW(run(counts_, 1, 1, 1), std::invalid_argument);  // nothing is cached yet
  EXPECT_EQ(calls_, 0);
  EXPECT_EQ(sequence_->length(), 0);
  run(counts_, 4, 0, kBoundary);
  EXPECT_THROW(run(counts_, 1, 4, kBoundary + 1), std::invalid_argument);  // LongRoPE's other factors
  EXPECT_EQ(calls_, 1);
  EXPECT_EQ(sequence_->length(), 4);
}

TEST_F(DeviceRun, an_observer_sees_each_op_once) {
  const Tensor table = weight(Role::tied_embedding, kVocab, kHidden, "embed_tokens"), norm = weight(Role::norm, 1, kHidden, "norm"),
               qkv = weight(Role::qkv, 128, kHidden, "qkv_proj");
  const Rotary rotary{.dim = 32, .inverse_frequencies = std::vector<float>(16, 1.0f)};
  const Told all([&](const Step& step) {
    Tensor x = ops::mul(ops::rms_norm(ops::embedding(step, table), norm, 1e-6f), 2.0f);
    const QkvHeads heads = ops::nlp_create_qkv_heads(ops::linear(x, qkv), kHeads, 1);
    const Tensor k = ops::rotary_embedding(heads.k, rotary, step);
    x = ops::add(ops::nlp_concat_heads(ops::attention(heads.q, k, heads.v, step, {.layer = 0, .scale = 1.0f, .window = {}})), x);
    const Tensor gelu = ops::gelu_mul(ops::linear(x, qkv));
    x = ops::add(gelu, ops::silu_mul(ops::linear(x, qkv)));
    return ops::softcap(ops::linear(ops::select_rows(x, step), table), 30.0f);
  });
  cache_.reserve(*sequence_, 0, 2);
  Noted noted;
  {
    const Observing observing(device_, noted);
    run(all);
  }
  EXPECT_EQ(noted.forwards, 1);
  EXPECT_THAT(noted.ops, ElementsAre("embedding embed_tokens 1x64", "rms_norm norm 1x64", "mul 1x64", "linear qkv_proj 1x128",
                                     "nlp_create_qkv_heads.q 2x32", "nlp_create_qkv_heads.k 1x32", "nlp_create_qkv_heads.v 1x32",
                                     "rotary_embedding 1x32", "attention 2x32", "nlp_concat_heads 1x64", "add 1x64",
                                     "linear qkv_proj 1x128", "gelu_mul 1x64", "linear qkv_proj 1x128", "silu_mul 1x64", "add 1x64",
                                     "select_rows 1x64", "linear embed_tokens 1x16", "softcap 1x16"));
  run(all);
  EXPECT_EQ(noted.forwards, 1);
}

TEST_F(DeviceRun, a_batch_that_is_refused_is_shown_to_nobody_and_a_forward_that_throws_leaves_no_observer) {
  Noted noted;
  const auto watched = [&](int64_t position) {
    const Observing observing(device_, noted);
    run(throws_, 1, position, 1);
  };
  EXPECT_THROW(watched(1), std::invalid_argument);
  EXPECT_EQ(noted.forwards, 0);
  EXPECT_THROW(watched(0), std::runtime_error);
  EXPECT_EQ(noted.forwards, 1);
  EXPECT_EQ(device_.observer(), nullptr);
}

TEST_F(DeviceRun, one_observes_at_a_time) {
  Noted first, second;
  {
    const Observing observing(device_, first);
    EXPECT_THROW(Observing(device_, second), std::logic_error);
    run(counts_);
  }
  const Observing observing(device_, second);
  run(counts_);
  EXPECT_EQ(first.forwards, 1);
  EXPECT_EQ(second.forwards, 1);
}

TEST(WeightSpec, a_label_is_the_module_s_name) {
  const auto label = [](Role role, const std::string& name) {
    return WeightSpec{.role = role, .shape = {}, .options = {}, .name = name}.label();
  };
  EXPECT_EQ(label(Role::norm, "model.layers.3.self_attn.q_norm.weight"), "layers.3.self_attn.q_norm");
  EXPECT_EQ(label(Role::qkv, "model.layers.3.self_attn.q_proj.weight"), "layers.3.self_attn.qkv_proj");
  EXPECT_EQ(label(Role::gate_up, "model.layers.0.mlp.gate_proj.weight"), "layers.0.mlp.gate_up_proj");
  EXPECT_EQ(label(Role::up, "model.layers.0.mlp.up_proj.weight"), "layers.0.mlp.up_proj");
  EXPECT_EQ(label(Role::experts_gate_up, "model.layers.2.mlp.experts.0.gate_proj.weight"), "layers.2.mlp.experts.gate_up_proj");
  EXPECT_EQ(label(Role::experts_down, "model.layers.2.mlp.experts.0.down_proj.weight"), "layers.2.mlp.experts.down_proj");
  EXPECT_EQ(label(Role::tied_embedding, "model.embed_tokens.weight"), "embed_tokens");
  EXPECT_EQ(label(Role::head, "lm_head.weight"), "lm_head");
}

}  // namespace
}  // namespace tessera

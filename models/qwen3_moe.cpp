// Qwen 3's mixtures of experts, top to bottom. Follows transformers' modeling_qwen3_moe.py (5.23).
#include <algorithm>

#include "models/decoder.h"

namespace tessera {
namespace {

const Config kQwen3Moe{.vocab_size = 151936,
                       .hidden_size = 2048,
                       .intermediate_size = 6144,
                       .num_hidden_layers = 24,
                       .num_attention_heads = 32,
                       .num_key_value_heads = 4,
                       .max_position_embeddings = 32768,
                       .rms_norm_eps = 1e-6};

struct Qwen3MoeConfig : Config {
  Bias attention_bias = Bias::none;
  MoeConfig moe;
  std::vector<bool> sparse;  // of each layer: experts, or one MLP
};

// Every layer has experts but those of mlp_only_layers, and those between two steps; every layer slides, if windows are used.
Qwen3MoeConfig read(const ConfigReader& json) {
  Qwen3MoeConfig c{read_config(json, kQwen3Moe)};
  c.attention_bias = json.boolean("attention_bias", false) ? Bias::each_output : Bias::none;
  const auto window = json.optional_integer("sliding_window", kTokens, 4096);
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), json.boolean("use_sliding_window", false) ? window : std::nullopt);
  c.moe = read_moe(json, {.num_experts = 128, .num_experts_per_tok = 8, .intermediate_size = 768}, "moe_intermediate_size");
  constexpr std::string_view kDense = "mlp_only_layers";
  constexpr IntegerRange kLayer{0, 1 << 12};
  const std::vector<int64_t> dense = json.is_set(kDense) ? json.integers(kDense, kLayer, 1 << 12) : std::vector<int64_t>();
  const int64_t step = json.integer("decoder_sparse_step", {1, 1 << 12}, 1);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    c.sparse.push_back((layer + 1) % step == 0 && std::find(dense.begin(), dense.end(), layer) == dense.end());
  expect_text(json, "hidden_act", "silu");
  return c;
}

class Attention {
 public:
  Attention(const Scope& at, const Qwen3MoeConfig& c, int64_t layer, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, c.attention_bias, c.attention_bias),
        q_norm_(at / "q_norm", c.head_dim, c.epsilon()),
        k_norm_(at / "k_norm", c.head_dim, c.epsilon()),
        rotary_(rotary),
        params_(c.attention(layer)) {}

  Tensor operator()(const Tensor& x, const Step& step) const {
    auto [q, k, v] = heads_.split(x);
    q = ops::rotary_embedding(q_norm_(q), rotary_, step);
    k = ops::rotary_embedding(k_norm_(k), rotary_, step);
    return heads_.join(ops::attention(q, k, v, step, params_));
  }

 private:
  Heads heads_;
  Norm q_norm_, k_norm_;
  const Rotary& rotary_;
  AttentionParams params_;
};

class Layer {
 public:
  Layer(const Scope& at, const Qwen3MoeConfig& c, int64_t layer, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, rotary),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon()),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()) {
    if (c.sparse[static_cast<size_t>(layer)])
      experts_.emplace(at / "mlp", c, c.moe);
    else
      mlp_.emplace(at / "mlp", c, Names{"gate_proj", "up_proj"});
  }

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, self_attn_(input_layernorm_(x), step));
    const Tensor normed = post_attention_layernorm_(x);
    return ops::add(x, experts_ ? (*experts_)(normed) : mlp_->down(ops::silu_mul(mlp_->up(normed))));
  }

 private:
  Attention self_attn_;
  std::optional<Experts> experts_;
  std::optional<Mlp> mlp_;
  Norm input_layernorm_, post_attention_layernorm_;
};

class Qwen3Moe final : public Decoder<Layer> {
 public:
  Qwen3Moe(const ConfigReader& json, const Qwen3MoeConfig& c, Weights& weights)
      : Decoder(c, {{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights,
                [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, layer, ropes[0].rotary); }) {}

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    for (const Layer& layer : layers) x = layer(x, step);
    return head.logits(norm(ops::select_rows(x, step)));
  }
};

}  // namespace

std::unique_ptr<Model> make_qwen3_moe(const ConfigReader& json, Weights& weights) {
  return std::make_unique<Qwen3Moe>(json, read(json), weights);
}

}  // namespace tessera

// Phi-3, top to bottom. Follows transformers' modeling_phi3.py (5.23); names are the checkpoint's.
#include "models/phi3.h"

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "checkpoint/rope_config.h"
#include "core/error.h"
#include "ops/ops.h"

namespace tessera {
namespace {

struct Config {  // Phi3Config; absent fields have its defaults
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads;
  int64_t max_position_embeddings;
  std::optional<int64_t> sliding_window;
  float rms_norm_eps;
  bool tie_word_embeddings;
  Phi3Rope rope;

  int64_t head_dim() const { return hidden_size / num_attention_heads; }
};

constexpr IntegerRange kSize{1, int64_t{1} << 24}, kCount{1, 1 << 12}, kTokens{1, int64_t{1} << 40};

Config read_config(const ConfigReader& config) {
  Config c;
  c.vocab_size = config.integer("vocab_size", kSize, 32064);
  c.hidden_size = config.integer("hidden_size", kSize, 3072);
  c.intermediate_size = config.integer("intermediate_size", kSize, 8192);
  c.num_hidden_layers = config.integer("num_hidden_layers", kCount, 32);
  c.num_attention_heads = config.integer("num_attention_heads", kCount, 32);
  c.num_key_value_heads = config.optional_integer("num_key_value_heads", kCount).value_or(c.num_attention_heads);
  c.max_position_embeddings = config.integer("max_position_embeddings", kTokens, 4096);
  c.sliding_window = config.optional_integer("sliding_window", kTokens);
  c.rms_norm_eps = static_cast<float>(config.number("rms_norm_eps", {.above = 0, .max = 1}, 1e-5));
  c.tie_word_embeddings = config.boolean("tie_word_embeddings", false);
  if (c.hidden_size % c.num_attention_heads != 0)
    config.refuse("hidden_size", "num_attention_heads, ", c.num_attention_heads, ", does not divide it");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    config.refuse("num_key_value_heads", "it does not divide num_attention_heads, ", c.num_attention_heads);
  if (c.head_dim() % 2 != 0 || c.head_dim() > 1024)
    config.refuse("hidden_size", "heads of ", c.head_dim(), " values are not supported; an even number up to 1024 is");
  if (config.is_set("hidden_act") && config.text("hidden_act") != "silu") config.refuse("hidden_act", "only silu is supported");
  c.rope = read_phi3_rope(config, c.head_dim(), c.max_position_embeddings);
  return c;
}

std::string name(int64_t layer, std::string_view part) {
  return "model.layers." + std::to_string(layer) + "." + std::string(part) + ".weight";
}

// LongRoPE has two sets of frequencies; the longer the sequence may get beyond the original context, the larger cos and sin.
Rotary rotary_of(const Config& c) {
  Rotary rotary = linear_rotary(c.rope.rotary_dim, c.rope.theta, 1.0);
  rotary.theta = c.rope.theta;
  if (c.rope.short_factor.empty()) return rotary;
  rotary.type = "longrope";
  rotary.dim = c.rope.rotary_dim;
  rotary.inverse_frequencies = scaled_frequencies(rotary.dim, c.rope.theta, c.rope.short_factor);
  rotary.long_inverse_frequencies = scaled_frequencies(rotary.dim, c.rope.theta, c.rope.long_factor);
  rotary.long_after = c.rope.original_max_position_embeddings;
  rotary.attention_factor = c.rope.attention_factor;
  return rotary;
}

class Attention {
 public:
  Attention(const Config& c, int64_t layer, Weights& weights, const Rotary& rotary)
      : qkv_proj_(weights.take_qkv(std::array{name(layer, "self_attn.qkv_proj")}, c.hidden_size,
                                   {c.num_attention_heads, c.num_key_value_heads, c.head_dim()})),
        o_proj_(weights.take(name(layer, "self_attn.o_proj"), {1, 1, c.hidden_size, c.num_attention_heads * c.head_dim()}, Role::output)),
        rotary_(rotary),
        num_heads_(c.num_attention_heads),
        num_kv_heads_(c.num_key_value_heads),
        params_{
            .layer = layer, .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim()))), .window = c.sliding_window} {}

  Tensor operator()(const Tensor& x, const Step& step) const {
    auto [q, k, v] = ops::nlp_create_qkv_heads(ops::linear(x, qkv_proj_), num_heads_, num_kv_heads_);
    q = ops::rotary_embedding(q, rotary_, step);
    k = ops::rotary_embedding(k, rotary_, step);
    return ops::linear(ops::nlp_concat_heads(ops::attention(q, k, v, step, params_)), o_proj_);
  }

 private:
  Tensor qkv_proj_, o_proj_;
  const Rotary& rotary_;
  int64_t num_heads_, num_kv_heads_;
  AttentionParams params_;
};

class Mlp {
 public:
  Mlp(const Config& c, int64_t layer, Weights& weights)
      : gate_up_proj_(weights.take(name(layer, "mlp.gate_up_proj"), {1, 1, 2 * c.intermediate_size, c.hidden_size}, Role::gate_up)),
        down_proj_(weights.take(name(layer, "mlp.down_proj"), {1, 1, c.hidden_size, c.intermediate_size}, Role::down)) {}

  Tensor operator()(const Tensor& x) const { return ops::linear(ops::silu_mul(ops::linear(x, gate_up_proj_)), down_proj_); }

 private:
  Tensor gate_up_proj_, down_proj_;
};

class Layer {
 public:
  Layer(const Config& c, int64_t layer, Weights& weights, const Rotary& rotary)
      : attention_(c, layer, weights, rotary),
        mlp_(c, layer, weights),
        input_layernorm_(weights.take_norm(name(layer, "input_layernorm"), c.hidden_size, 0.0f)),
        post_attention_layernorm_(weights.take_norm(name(layer, "post_attention_layernorm"), c.hidden_size, 0.0f)),
        epsilon_(c.rms_norm_eps) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, attention_(ops::rms_norm(x, input_layernorm_, epsilon_), step));
    return ops::add(x, mlp_(ops::rms_norm(x, post_attention_layernorm_, epsilon_)));
  }

 private:
  Attention attention_;
  Mlp mlp_;
  Tensor input_layernorm_, post_attention_layernorm_;
  float epsilon_;
};

class Phi3 final : public Model {
 public:
  Phi3(const Config& c, Weights& weights)
      : Model(spec_of(c)),
        config_(c),
        rotary_(rotary_of(c)),
        embed_tokens_(weights.take("model.embed_tokens.weight", {1, 1, c.vocab_size, c.hidden_size},
                                   c.tie_word_embeddings ? Role::tied_embedding : Role::embedding)),
        norm_(weights.take_norm("model.norm.weight", c.hidden_size, 0.0f)) {
    layers_.reserve(static_cast<size_t>(c.num_hidden_layers));
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, i, weights, rotary_);
    lm_head_ = c.tie_word_embeddings ? embed_tokens_ : weights.take("lm_head.weight", {1, 1, c.vocab_size, c.hidden_size}, Role::head);
    weights.expect_all_taken();
  }

  Tensor forward(const Step& step) const override {
    Tensor x = ops::embedding(step, embed_tokens_);
    for (const Layer& layer : layers_) x = layer(x, step);
    return ops::linear(ops::rms_norm(ops::select_rows(x, step), norm_, config_.rms_norm_eps), lm_head_);
  }

 private:
  static ModelSpec spec_of(const Config& c) {
    const Rotary rotary = rotary_of(c);
    const CacheLayer layer{c.num_key_value_heads, c.head_dim(), c.sliding_window};
    ModelSpec spec{.vocab_size = c.vocab_size,
                   .max_position_embeddings = c.max_position_embeddings,
                   .tied = c.tie_word_embeddings,
                   .cache = {std::vector<CacheLayer>(static_cast<size_t>(c.num_hidden_layers), layer)}};
    if (!rotary.long_inverse_frequencies.empty()) spec.recompute_after = rotary.long_after;
    spec.ropes = {{"all", rotary}};
    spec.tokens = {.eos = {32000}, .bos = 1, .pad = 32000};
    return spec;
  }

  Config config_;
  Rotary rotary_;
  Tensor embed_tokens_, norm_, lm_head_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<Model> make_phi3(const ConfigReader& config, Weights& weights) {
  return std::make_unique<Phi3>(read_config(config), weights);
}

}  // namespace tessera

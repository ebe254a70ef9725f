// Gemma 3, top to bottom. Follows transformers' modeling_gemma3.py (5.23); names are the checkpoint's.
#include "models/gemma3.h"

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "checkpoint/rope_config.h"
#include "core/error.h"
#include "ops/ops.h"

namespace tessera {
namespace {

struct Config {  // Gemma3TextConfig; absent fields have its defaults
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
  int64_t max_position_embeddings, sliding_window;
  double query_pre_attn_scalar;
  float rms_norm_eps;
  std::optional<float> final_logit_softcapping;
  std::vector<bool> is_sliding;
  Gemma3Rope rope;

  std::optional<int64_t> window(int64_t layer) const {
    return is_sliding[static_cast<size_t>(layer)] ? std::optional(sliding_window) : std::nullopt;
  }
};

constexpr IntegerRange kSize{1, int64_t{1} << 24}, kCount{1, 1 << 12}, kTokens{1, int64_t{1} << 40};

// layer_types, or every sliding_window_pattern-th layer full.
std::vector<bool> sliding_layers(const ConfigReader& text, int64_t num_hidden_layers) {
  std::vector<bool> sliding;
  if (!text.is_set("layer_types")) {
    const int64_t pattern = text.integer("sliding_window_pattern", kCount, text.integer("_sliding_window_pattern", kCount, 6));
    for (int64_t i = 0; i < num_hidden_layers; ++i) sliding.push_back((i + 1) % pattern != 0);
    return sliding;
  }
  for (const std::string& type : text.texts("layer_types", static_cast<size_t>(kCount.max))) {
    if (type != "sliding_attention" && type != "full_attention")
      text.refuse("layer_types", "a layer is sliding_attention or full_attention");
    sliding.push_back(type == "sliding_attention");
  }
  if (static_cast<int64_t>(sliding.size()) != num_hidden_layers) text.refuse("layer_types", "num_hidden_layers is ", num_hidden_layers);
  return sliding;
}

Config read_config(const ConfigReader& text) {
  Config c;
  c.vocab_size = text.integer("vocab_size", kSize, 262208);
  c.hidden_size = text.integer("hidden_size", kSize, 2304);
  c.intermediate_size = text.integer("intermediate_size", kSize, 9216);
  c.num_hidden_layers = text.integer("num_hidden_layers", kCount, 26);
  c.num_attention_heads = text.integer("num_attention_heads", kCount, 8);
  c.num_key_value_heads = text.integer("num_key_value_heads", kCount, 4);
  c.head_dim = text.integer("head_dim", {2, 1024}, 256);
  c.max_position_embeddings = text.integer("max_position_embeddings", kTokens, 131072);
  c.sliding_window = text.integer("sliding_window", kTokens, 4096);
  c.query_pre_attn_scalar = text.number("query_pre_attn_scalar", {.above = 0}, 256);
  c.rms_norm_eps = static_cast<float>(text.number("rms_norm_eps", {.above = 0, .max = 1}, 1e-6));
  if (const auto cap = text.optional_number("final_logit_softcapping", {.above = 0})) c.final_logit_softcapping = static_cast<float>(*cap);
  c.is_sliding = sliding_layers(text, c.num_hidden_layers);
  c.rope = read_gemma3_rope(text);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    text.refuse("num_key_value_heads", "it does not divide num_attention_heads, ", c.num_attention_heads);
  if (c.head_dim % 2 != 0) text.refuse("head_dim", "rotary embeddings need an even one");
  if (text.boolean("attention_bias", false)) text.refuse("attention_bias", "biases are not supported");
  if (text.boolean("use_bidirectional_attention", false)) text.refuse("use_bidirectional_attention", "embedding models are not supported");
  if (!text.boolean("tie_word_embeddings", true)) text.refuse("tie_word_embeddings", "a Gemma 3 with its own head is not supported");
  if (text.is_set("hidden_activation") && text.text("hidden_activation") != "gelu_pytorch_tanh")
    text.refuse("hidden_activation", "only gelu_pytorch_tanh is supported");
  return c;
}

constexpr float kNormOffset = 1.0f;  // Gemma multiplies by 1 + weight

std::string name(int64_t layer, std::string_view part) {
  return "model.layers." + std::to_string(layer) + "." + std::string(part) + ".weight";
}

class Attention {
 public:
  Attention(const Config& c, int64_t layer, Weights& weights, const Rotary& rotary)
      : qkv_proj_(
            weights.take_qkv(std::array{name(layer, "self_attn.q_proj"), name(layer, "self_attn.k_proj"), name(layer, "self_attn.v_proj")},
                             c.hidden_size, {c.num_attention_heads, c.num_key_value_heads, c.head_dim})),
        o_proj_(weights.take(name(layer, "self_attn.o_proj"), {1, 1, c.hidden_size, c.num_attention_heads * c.head_dim}, Role::output)),
        q_norm_(weights.take_norm(name(layer, "self_attn.q_norm"), c.head_dim, kNormOffset)),
        k_norm_(weights.take_norm(name(layer, "self_attn.k_norm"), c.head_dim, kNormOffset)),
        rotary_(rotary),
        num_heads_(c.num_attention_heads),
        num_kv_heads_(c.num_key_value_heads),
        epsilon_(c.rms_norm_eps),
        params_{.layer = layer, .scale = static_cast<float>(1.0 / std::sqrt(c.query_pre_attn_scalar)), .window = c.window(layer)} {}

  Tensor operator()(const Tensor& x, const Step& step) const {
    auto [q, k, v] = ops::nlp_create_qkv_heads(ops::linear(x, qkv_proj_), num_heads_, num_kv_heads_);
    q = ops::rotary_embedding(ops::rms_norm(q, q_norm_, epsilon_), rotary_, step);
    k = ops::rotary_embedding(ops::rms_norm(k, k_norm_, epsilon_), rotary_, step);
    return ops::linear(ops::nlp_concat_heads(ops::attention(q, k, v, step, params_)), o_proj_);
  }

 private:
  Tensor qkv_proj_, o_proj_, q_norm_, k_norm_;
  const Rotary& rotary_;
  int64_t num_heads_, num_kv_heads_;
  float epsilon_;
  AttentionParams params_;
};

class Mlp {
 public:
  Mlp(const Config& c, int64_t layer, Weights& weights)
      : gate_up_proj_(weights.take_joined(
            std::array{name(layer, "mlp.gate_proj"), name(layer, "mlp.up_proj")},
            std::array<Shape, 2>{{{1, 1, c.intermediate_size, c.hidden_size}, {1, 1, c.intermediate_size, c.hidden_size}}}, Role::gate_up)),
        down_proj_(weights.take(name(layer, "mlp.down_proj"), {1, 1, c.hidden_size, c.intermediate_size}, Role::down)) {}

  Tensor operator()(const Tensor& x) const { return ops::linear(ops::gelu_mul(ops::linear(x, gate_up_proj_)), down_proj_); }

 private:
  Tensor gate_up_proj_, down_proj_;
};

class Layer {
 public:
  Layer(const Config& c, int64_t layer, Weights& weights, const Rotary& rotary)
      : attention_(c, layer, weights, rotary),
        mlp_(c, layer, weights),
        input_layernorm_(weights.take_norm(name(layer, "input_layernorm"), c.hidden_size, kNormOffset)),
        post_attention_layernorm_(weights.take_norm(name(layer, "post_attention_layernorm"), c.hidden_size, kNormOffset)),
        pre_feedforward_layernorm_(weights.take_norm(name(layer, "pre_feedforward_layernorm"), c.hidden_size, kNormOffset)),
        post_feedforward_layernorm_(weights.take_norm(name(layer, "post_feedforward_layernorm"), c.hidden_size, kNormOffset)),
        epsilon_(c.rms_norm_eps) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, norm(attention_(norm(x, input_layernorm_), step), post_attention_layernorm_));
    return ops::add(x, norm(mlp_(norm(x, pre_feedforward_layernorm_)), post_feedforward_layernorm_));
  }

 private:
  Tensor norm(const Tensor& x, const Tensor& weight) const { return ops::rms_norm(x, weight, epsilon_); }

  Attention attention_;
  Mlp mlp_;
  Tensor input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
  float epsilon_;
};

class Gemma3 final : public Model {
 public:
  Gemma3(const Config& c, Weights& weights)
      : Model(spec_of(c)),
        config_(c),
        full_rotary_(linear_rotary(c.head_dim, c.rope.full.theta, c.rope.full.factor)),
        sliding_rotary_(linear_rotary(c.head_dim, c.rope.sliding.theta, c.rope.sliding.factor)),
        embed_tokens_(weights.take("model.embed_tokens.weight", {1, 1, c.vocab_size, c.hidden_size}, Role::tied_embedding)),
        norm_(weights.take_norm("model.norm.weight", c.hidden_size, kNormOffset)) {
    layers_.reserve(static_cast<size_t>(c.num_hidden_layers));
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) layers_.emplace_back(c, i, weights, c.window(i) ? sliding_rotary_ : full_rotary_);
    weights.skip_prefix("vision_tower.");
    weights.skip_prefix("multi_modal_projector.");
    weights.expect_all_taken();
  }

  Tensor forward(const Step& step) const override {
    // The factor is rounded to the activations' type, as Gemma3TextScaledWordEmbedding does.
    Tensor x = ops::mul(ops::embedding(step, embed_tokens_), std::sqrt(static_cast<float>(config_.hidden_size)));
    for (const Layer& layer : layers_) x = layer(x, step);
    x = ops::linear(ops::rms_norm(ops::select_rows(x, step), norm_, config_.rms_norm_eps), embed_tokens_);
    return config_.final_logit_softcapping ? ops::softcap(x, *config_.final_logit_softcapping) : x;
  }

 private:
  static ModelSpec spec_of(const Config& c) {
    ModelSpec spec{.vocab_size = c.vocab_size, .max_position_embeddings = c.max_position_embeddings, .tied = true};
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) spec.cache.layers.push_back({c.num_key_value_heads, c.head_dim, c.window(i)});
    const auto rotary = [&](const LinearRope& rope) {
      Rotary made = linear_rotary(c.head_dim, rope.theta, rope.factor);
      made.theta = rope.theta;
      made.factor = rope.factor;
      if (rope.factor != 1) made.type = "linear";
      return made;
    };
    spec.ropes = {{"full", rotary(c.rope.full)}, {"sliding", rotary(c.rope.sliding)}};
    spec.tokens = {.eos = {1}, .bos = 2, .pad = 0};
    return spec;
  }

  Config config_;
  Rotary full_rotary_, sliding_rotary_;
  Tensor embed_tokens_, norm_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<Model> make_gemma3(const ConfigReader& config, Weights& weights) {
  return std::make_unique<Gemma3>(read_config(config.object("text_config").value_or(config)), weights);
}

}  // namespace tessera

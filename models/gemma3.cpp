// Gemma 3's language model, of a text checkpoint or of a multimodal one, top to bottom. Follows transformers' modeling_gemma3.py (5.23).
#include <cmath>

#include "models/decoder.h"

namespace tessera {
namespace {

const Config kGemma3{.vocab_size = 262208,
                     .hidden_size = 2304,
                     .intermediate_size = 9216,
                     .num_hidden_layers = 26,
                     .num_attention_heads = 8,
                     .num_key_value_heads = 4,
                     .head_dim = 256,
                     .max_position_embeddings = 131072,
                     .rms_norm_eps = 1e-6,
                     .tie_word_embeddings = true,
                     .tokens = {.eos = {1}, .bos = 2, .pad = 0},
                     .heads_divide_hidden = true};
constexpr float kNormOffset = 1.0f;  // Gemma multiplies by 1 + weight
constexpr RopeName kRopes[] = {{"default", RopeType::standard}, {"linear", RopeType::linear}};

ConfigReader text_of(const ConfigReader& json) { return json.object("text_config").value_or(json); }

// Without layer_types every sliding_window_pattern-th layer is full.
Config read(const ConfigReader& json) {
  Config c = read_config(json, kGemma3);
  constexpr IntegerRange kPattern{1, 1 << 12};
  const int64_t pattern = json.integer("sliding_window_pattern", kPattern, json.integer("_sliding_window_pattern", kPattern, 6));
  c.windows = read_windows(json, c.num_hidden_layers, json.optional_integer("sliding_window", kTokens, 4096),
                           [&](int64_t layer) { return (layer + 1) % pattern != 0; });
  c.scale = 1.0 / std::sqrt(json.number("query_pre_attn_scalar", {.above = 0}, 256));
  expect_text(json, "hidden_activation", "gelu_pytorch_tanh");
  expect_false(json, "attention_bias");
  constexpr std::string_view kBidirectional = "use_bidirectional_attention";
  if (json.is_set(kBidirectional) && json.boolean(kBidirectional))
    json.refuse(kBidirectional, "a model of embeddings is not supported; take a Gemma 3 that generates text");
  return c;
}

Ropes read_ropes(const ConfigReader& json, const Config& c) {
  const auto read = [&](const char* layers, const char* scaling, const char* theta_field, double theta) {
    return read_layer_rope(json, layers, scaling, theta_field, {c.head_dim, c.max_position_embeddings, theta, {}, false, kRopes});
  };
  return {{"full", read("full_attention", "rope_scaling", "rope_theta", 1e6)},
          {"sliding", read("sliding_attention", "", "rope_local_base_freq", 1e4)}};
}

class Attention {
 public:
  Attention(const Scope& at, const Config& c, int64_t layer, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}),
        q_norm_(at / "q_norm", c.head_dim, c.epsilon(), kNormOffset),
        k_norm_(at / "k_norm", c.head_dim, c.epsilon(), kNormOffset),
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
  Layer(const Scope& at, const Config& c, int64_t layer, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, rotary),
        mlp_(at / "mlp", c, {"gate_proj", "up_proj"}),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon(), kNormOffset),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon(), kNormOffset),
        pre_feedforward_layernorm_(at / "pre_feedforward_layernorm", c.hidden_size, c.epsilon(), kNormOffset),
        post_feedforward_layernorm_(at / "post_feedforward_layernorm", c.hidden_size, c.epsilon(), kNormOffset) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, post_attention_layernorm_(self_attn_(input_layernorm_(x), step)));
    return ops::add(x, post_feedforward_layernorm_(mlp_.down(ops::gelu_mul(mlp_.up(pre_feedforward_layernorm_(x))))));
  }

 private:
  Attention self_attn_;
  Mlp mlp_;
  Norm input_layernorm_, post_attention_layernorm_, pre_feedforward_layernorm_, post_feedforward_layernorm_;
};

}  // namespace

class Gemma3 final : public Decoder<Layer> {
 public:
  Gemma3(const ConfigReader& json, Weights& weights) : Gemma3(text_of(json), read(text_of(json)), weights) {}

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    x = ops::mul(x, rounded_as(x, std::sqrt(hidden_size_)));  // Gemma3TextScaledWordEmbedding
    for (const Layer& layer : layers) x = layer(x, step);
    x = head.logits(norm(ops::select_rows(x, step)));
    return final_logit_softcapping_ ? ops::softcap(x, static_cast<float>(*final_logit_softcapping_)) : x;
  }

 private:
  Gemma3(const ConfigReader& text, const Config& c, Weights& weights)
      : Decoder(c, read_ropes(text, c), weights,
                [&](const Scope& at, int64_t layer, const Ropes& ropes) {
                  return Layer(at, c, layer, ropes[c.attention(layer).window ? 1 : 0].rotary);
                },
                kNormOffset, {"vision_tower.", "multi_modal_projector."}),
        hidden_size_(static_cast<float>(c.hidden_size)),
        final_logit_softcapping_(text.optional_number("final_logit_softcapping", {.above = 0})) {}

  float hidden_size_;
  std::optional<double> final_logit_softcapping_;
};

std::unique_ptr<Model> make_gemma3(const ConfigReader& json, Weights& weights) { return std::make_unique<Gemma3>(json, weights); }

}  // namespace tessera

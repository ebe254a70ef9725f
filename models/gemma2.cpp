// Gemma 2, top to bottom. Follows transformers' modeling_gemma2.py (5.23).
#include <cmath>

#include "models/decoder.h"

namespace tessera {
namespace {

const Config kGemma2{.vocab_size = 256000,
                     .hidden_size = 2304,
                     .intermediate_size = 9216,
                     .num_hidden_layers = 26,
                     .num_attention_heads = 8,
                     .num_key_value_heads = 4,
                     .head_dim = 256,
                     .max_position_embeddings = 8192,
                     .rms_norm_eps = 1e-6,
                     .tie_word_embeddings = true,
                     .tokens = {.eos = {1}, .bos = 2, .pad = 0},
                     .heads_divide_hidden = true};
constexpr float kNormOffset = 1.0f;  // Gemma multiplies by 1 + weight

// Without layer_types every second layer is full. Both softcaps are on unless they are null.
Config read(const ConfigReader& json) {
  Config c = read_config(json, kGemma2);
  c.windows = read_windows(json, c.num_hidden_layers, json.optional_integer("sliding_window", kTokens, 4096),
                           [](int64_t layer) { return layer % 2 == 0; });
  c.scale = 1.0 / std::sqrt(json.number("query_pre_attn_scalar", {.above = 0}, 256));
  c.attention_softcap = json.optional_number("attn_logit_softcapping", {.above = 0}, 50.0);
  expect_text(json, "hidden_activation", "gelu_pytorch_tanh");
  expect_false(json, "use_bidirectional_attention");
  return c;
}

class Attention {
 public:
  Attention(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, bias, bias), rotary_(rotary), params_(c.attention(layer)) {}

  Tensor operator()(const Tensor& x, const Step& step) const {
    auto [q, k, v] = heads_.split(x);
    q = ops::rotary_embedding(q, rotary_, step);
    k = ops::rotary_embedding(k, rotary_, step);
    return heads_.join(ops::attention(q, k, v, step, params_));
  }

 private:
  Heads heads_;
  const Rotary& rotary_;
  AttentionParams params_;
};

class Layer {
 public:
  Layer(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, bias, rotary),
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

class Gemma2 final : public Decoder<Layer> {
 public:
  Gemma2(const ConfigReader& json, const Config& c, Bias bias, Weights& weights)
      : Decoder(
            c, {{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights,
            [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, layer, bias, ropes[0].rotary); }, kNormOffset),
        hidden_size_(static_cast<float>(c.hidden_size)),
        final_logit_softcapping_(json.optional_number("final_logit_softcapping", {.above = 0}, 30.0)) {}

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    x = ops::mul(x, rounded_as(x, std::sqrt(hidden_size_)));  // normalizer
    for (const Layer& layer : layers) x = layer(x, step);
    x = head.logits(norm(ops::select_rows(x, step)));
    return final_logit_softcapping_ ? ops::softcap(x, static_cast<float>(*final_logit_softcapping_)) : x;
  }

 private:
  float hidden_size_;
  std::optional<double> final_logit_softcapping_;
};

}  // namespace

std::unique_ptr<Model> make_gemma2(const ConfigReader& json, Weights& weights) {
  const Bias bias = json.boolean("attention_bias", false) ? Bias::each_output : Bias::none;
  return std::make_unique<Gemma2>(json, read(json), bias, weights);
}

}  // namespace tessera

// OLMo 2 and OLMo 3, top to bottom. Follows transformers' modeling_olmo2.py and modeling_olmo3.py (5.23). Norms stand behind attention and
// MLP, and those of queries and keys reach over all heads.
#include "models/decoder.h"

namespace tessera {
namespace {

const Config kOlmo{.vocab_size = 50304,
                   .hidden_size = 4096,
                   .intermediate_size = 11008,
                   .num_hidden_layers = 32,
                   .num_attention_heads = 32,
                   .max_position_embeddings = 2048,
                   .rms_norm_eps = 1e-5,
                   .tokens = {.eos = {50279}, .pad = 1}};

class Attention {
 public:
  Attention(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, bias, bias),
        q_norm_(at / "q_norm", c.num_attention_heads * c.head_dim, c.epsilon()),
        k_norm_(at / "k_norm", c.num_key_value_heads * c.head_dim, c.epsilon()),
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
  Layer(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, bias, rotary),
        mlp_(at / "mlp", c, {"gate_proj", "up_proj"}),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()),
        post_feedforward_layernorm_(at / "post_feedforward_layernorm", c.hidden_size, c.epsilon()) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, post_attention_layernorm_(self_attn_(x, step)));
    return ops::add(x, post_feedforward_layernorm_(mlp_.down(ops::silu_mul(mlp_.up(x)))));
  }

 private:
  Attention self_attn_;
  Mlp mlp_;
  Norm post_attention_layernorm_, post_feedforward_layernorm_;
};

// A layer turns by the last of the ropes if it slides, else by the first. Cosines and sines stay float32.
class Olmo final : public Decoder<Layer> {
 public:
  Olmo(const ConfigReader& json, const Config& c, Ropes ropes, Weights& weights)
      : Decoder(c, exact(std::move(ropes)), weights, [&](const Scope& at, int64_t layer, const Ropes& of) {
          const Bias bias = json.boolean("attention_bias", false) ? Bias::each_output : Bias::none;
          return Layer(at, c, layer, bias, (c.attention(layer).window ? of.back() : of.front()).rotary);
        }) {
    expect_text(json, "hidden_act", "silu");
  }

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    for (const Layer& layer : layers) x = layer(x, step);
    return head.logits(norm(ops::select_rows(x, step)));
  }

 private:
  static Ropes exact(Ropes ropes) {
    for (ModelSpec::Rope& rope : ropes) rope.rotary.rounds = false;
    return ropes;
  }
};

}  // namespace

std::unique_ptr<Model> make_olmo2(const ConfigReader& json, Weights& weights) {
  const Config c = read_config(json, kOlmo);
  return std::make_unique<Olmo>(json, c, Ropes{{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights);
}

// Without layer_types every fourth layer is full. What scales the rope is for the full layers, and so is rope_theta outside of it.
std::unique_ptr<Model> make_olmo3(const ConfigReader& json, Weights& weights) {
  Config c = read_config(json, kOlmo);
  c.windows = read_windows(json, c.num_hidden_layers, json.optional_integer("sliding_window", kTokens, 4096),
                           [](int64_t layer) { return (layer + 1) % 4 != 0; });
  const auto rope = [&](const char* layers, const char* scaling, const char* theta) {
    return read_layer_rope(json, layers, scaling, theta, {c.head_dim, c.max_position_embeddings, 5e5});
  };
  Ropes ropes{{"full", rope("full_attention", "rope_scaling", "rope_theta")}, {"sliding", rope("sliding_attention", "", "")}};
  return std::make_unique<Olmo>(json, c, std::move(ropes), weights);
}

}  // namespace tessera

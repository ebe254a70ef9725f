// Qwen2 and Qwen3, top to bottom. Follows transformers' modeling_qwen2.py and modeling_qwen3.py (5.23).
#include "models/decoder.h"

namespace tessera {
namespace {

const Config kQwen2{.vocab_size = 151936,
                    .hidden_size = 4096,
                    .intermediate_size = 22016,
                    .num_hidden_layers = 32,
                    .num_attention_heads = 32,
                    .num_key_value_heads = 32,
                    .max_position_embeddings = 32768,
                    .rms_norm_eps = 1e-6};

// Both classes slide from layer max_window_layers on, if at all.
Config read(const ConfigReader& json, const Config& defaults) {
  Config c = read_config(json, defaults);
  const auto window = json.optional_integer("sliding_window", kTokens, 4096);
  const int64_t first = json.integer("max_window_layers", {0, 1 << 12}, 28);
  const bool slides = json.boolean("use_sliding_window", false) && window;
  c.windows =
      read_windows(json, c.num_hidden_layers, slides ? window : std::nullopt, [&](int64_t layer) { return slides && layer >= first; });
  expect_text(json, "hidden_act", "silu");
  return c;
}

Config qwen3_defaults() {
  Config c = kQwen2;
  c.head_dim = 128;
  return c;
}

class Qwen2Attention {
 public:
  Qwen2Attention(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, bias), rotary_(rotary), params_(c.attention(layer)) {}

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

class Qwen3Attention {
 public:
  Qwen3Attention(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, bias, bias),
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

template <class Attention>
class Layer {
 public:
  Layer(const Scope& at, const Config& c, int64_t layer, Bias bias, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, bias, rotary),
        mlp_(at / "mlp", c, {"gate_proj", "up_proj"}),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon()),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, self_attn_(input_layernorm_(x), step));
    return ops::add(x, mlp_.down(ops::silu_mul(mlp_.up(post_attention_layernorm_(x)))));
  }

 private:
  Attention self_attn_;
  Mlp mlp_;
  Norm input_layernorm_, post_attention_layernorm_;
};

template <class Attention>
class Qwen : public Decoder<Layer<Attention>> {
 public:
  Qwen(const ConfigReader& json, const Config& c, Bias bias, Weights& weights)
      : Decoder<Layer<Attention>>(
            c, {{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights,
            [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer<Attention>(at, c, layer, bias, ropes[0].rotary); }) {}

  Tensor forward(const Step& step) const override {
    Tensor x = this->head.embed(step);
    for (const auto& layer : this->layers) x = layer(x, step);
    return this->head.logits(this->norm(ops::select_rows(x, step)));
  }
};

}  // namespace

class Qwen2 final : public Qwen<Qwen2Attention> {
 public:
  Qwen2(const ConfigReader& json, Weights& weights) : Qwen(json, read(json, kQwen2), Bias::each_output, weights) {}
};

class Qwen3 final : public Qwen<Qwen3Attention> {
 public:
  Qwen3(const ConfigReader& json, Weights& weights)
      : Qwen(json, read(json, qwen3_defaults()), json.boolean("attention_bias", false) ? Bias::each_output : Bias::none, weights) {}
};

std::unique_ptr<Model> make_qwen2(const ConfigReader& json, Weights& weights) { return std::make_unique<Qwen2>(json, weights); }
std::unique_ptr<Model> make_qwen3(const ConfigReader& json, Weights& weights) { return std::make_unique<Qwen3>(json, weights); }

}  // namespace tessera

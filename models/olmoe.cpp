// OLMoE, top to bottom. Follows transformers' modeling_olmoe.py (5.23): Llama's order, norms of queries and keys over all heads, experts in
// every layer.
#include "models/decoder.h"

namespace tessera {
namespace {

const Config kOlmoe{.vocab_size = 50304,
                    .hidden_size = 2048,
                    .intermediate_size = 2048,
                    .num_hidden_layers = 16,
                    .num_attention_heads = 16,
                    .max_position_embeddings = 4096,
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
  Layer(const Scope& at, const Config& c, const MoeConfig& moe, int64_t layer, Bias bias, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, bias, rotary),
        experts_(at / "mlp", c, moe),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon()),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, self_attn_(input_layernorm_(x), step));
    return ops::add(x, experts_(post_attention_layernorm_(x)));
  }

 private:
  Attention self_attn_;
  Experts experts_;
  Norm input_layernorm_, post_attention_layernorm_;
};

class Olmoe final : public Decoder<Layer> {
 public:
  Olmoe(const ConfigReader& json, const Config& c, const MoeConfig& moe, Bias bias, Weights& weights)
      : Decoder(c, {{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights,
                [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, moe, layer, bias, ropes[0].rotary); }) {}

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    for (const Layer& layer : layers) x = layer(x, step);
    return head.logits(norm(ops::select_rows(x, step)));
  }
};

}  // namespace

// The norms' widths are the class's: a head_dim of its own would not fit them.
std::unique_ptr<Model> make_olmoe(const ConfigReader& json, Weights& weights) {
  const Config c = read_config(json, kOlmoe);
  if (c.head_dim != c.hidden_size / c.num_attention_heads)
    json.refuse("head_dim", "this architecture's is hidden_size / num_attention_heads");
  if (json.is_set("clip_qkv")) json.refuse("clip_qkv", "it is not supported; null is");
  expect_text(json, "hidden_act", "silu");
  const MoeConfig moe =
      read_moe(json, {.num_experts = 64, .num_experts_per_tok = 8, .intermediate_size = c.intermediate_size}, "intermediate_size");
  const Bias bias = json.boolean("attention_bias", false) ? Bias::each_output : Bias::none;
  return std::make_unique<Olmoe>(json, c, moe, bias, weights);
}

}  // namespace tessera

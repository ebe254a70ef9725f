// Phi-3 (mini, 4k and 128k) and what shares its layout, top to bottom. Follows transformers' modeling_phi3.py (5.23).
#include "models/decoder.h"

namespace tessera {
namespace {

const Config kPhi3{.vocab_size = 32064,
                   .hidden_size = 3072,
                   .intermediate_size = 8192,
                   .num_hidden_layers = 32,
                   .num_attention_heads = 32,
                   .max_position_embeddings = 4096,
                   .rms_norm_eps = 1e-5,
                   .tokens = {.eos = {32000}, .bos = 1, .pad = 32000}};

// As Phi3Config.convert_rope_params_to_dict: "yarn" means longrope. So does "su" here, the name of longrope in the first Phi-3 revisions,
// which transformers 5.23 means to rename too but refuses.
constexpr RopeName kRopes[] = {
    {"default", RopeType::standard}, {"longrope", RopeType::longrope}, {"yarn", RopeType::longrope}, {"su", RopeType::longrope}};

Config read(const ConfigReader& json) {
  Config c = read_config(json, kPhi3);
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), json.optional_integer("sliding_window", kTokens));
  expect_text(json, "hidden_act", "silu");
  return c;
}

Rotary read_rotary(const ConfigReader& json, const Config& c) {
  return read_rope(json, {.head_dim = c.head_dim,
                          .max_position_embeddings = c.max_position_embeddings,
                          .original_max_position_embeddings = 4096,
                          .rotates_a_part = true,
                          .types = kRopes});
}

class Attention {
 public:
  Attention(const Scope& at, const Config& c, int64_t layer, const Rotary& rotary)
      : heads_(at, c, {"qkv_proj"}), rotary_(rotary), params_(c.attention(layer)) {}

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
  Layer(const Scope& at, const Config& c, int64_t layer, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, rotary),
        mlp_(at / "mlp", c, {"gate_up_proj"}),
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

}  // namespace

class Phi3 final : public Decoder<Layer> {
 public:
  Phi3(const ConfigReader& json, Weights& weights) : Phi3(json, read(json), weights) {}

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    for (const Layer& layer : layers) x = layer(x, step);
    return head.logits(norm(ops::select_rows(x, step)));
  }

 private:
  Phi3(const ConfigReader& json, const Config& c, Weights& weights)
      : Decoder(c, {{"all", read_rotary(json, c)}}, weights,
                [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, layer, ropes[0].rotary); }) {}
};

std::unique_ptr<Model> make_phi3(const ConfigReader& json, Weights& weights) { return std::make_unique<Phi3>(json, weights); }

}  // namespace tessera

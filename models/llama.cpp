// Llama and Mistral, top to bottom. Follows transformers' modeling_llama.py and modeling_mistral.py (5.23).
#include "models/decoder.h"

namespace tessera {
namespace {

const Config kLlama{.vocab_size = 32000,
                    .hidden_size = 4096,
                    .intermediate_size = 11008,
                    .num_hidden_layers = 32,
                    .num_attention_heads = 32,
                    .max_position_embeddings = 2048,
                    .rms_norm_eps = 1e-6,
                    .tokens = {.eos = {2}, .bos = 1},
                    .null_head_dim = true,
                    .heads_divide_hidden = true};
const Config kMistral{.vocab_size = 32000,
                      .hidden_size = 4096,
                      .intermediate_size = 14336,
                      .num_hidden_layers = 32,
                      .num_attention_heads = 32,
                      .num_key_value_heads = 8,
                      .max_position_embeddings = 131072,
                      .rms_norm_eps = 1e-6,
                      .tokens = {.eos = {2}, .bos = 1},
                      .null_head_dim = true};

struct Biases {
  Bias attention = Bias::none, mlp = Bias::none;
};

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
  Layer(const Scope& at, const Config& c, int64_t layer, const Biases& biases, const Rotary& rotary)
      : self_attn_(at / "self_attn", c, layer, biases.attention, rotary),
        mlp_(at / "mlp", c, {"gate_proj", "up_proj"}, biases.mlp),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon()),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, self_attn_(input_layernorm_(x), step));
    return ops::add(x, mlp_.down(ops::silu_mul(mlp_.gate_up(post_attention_layernorm_(x)))));
  }

 private:
  Attention self_attn_;
  GatedMlp mlp_;
  Norm input_layernorm_, post_attention_layernorm_;
};

class LlamaModel : public Decoder<Layer> {
 public:
  LlamaModel(const ConfigReader& json, const Config& c, const Biases& biases, Weights& weights)
      : Decoder(c, {{"all", read_rope(json, {c.head_dim, c.max_position_embeddings})}}, weights,
                [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, layer, biases, ropes[0].rotary); }) {
    expect_text(json, "hidden_act", "silu");
  }

  Tensor forward(const Step& step) const override {
    Tensor x = head.embed(step);
    for (const Layer& layer : layers) x = layer(x, step);
    return head.logits(norm(ops::select_rows(x, step)));
  }
};

Biases read_biases(const ConfigReader& json) {
  const auto bias = [&](const char* field) { return json.boolean(field, false) ? Bias::each_output : Bias::none; };
  return {.attention = bias("attention_bias"), .mlp = bias("mlp_bias")};
}

// Every layer slides; where sliding_window is absent, over the class's 4096 positions.
Config read_mistral(const ConfigReader& json) {
  if (json.is_set("layer_types")) json.refuse("layer_types", "transformers reads this as a Ministral, which is not supported");
  Config c = read_config(json, kMistral);
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), json.optional_integer("sliding_window", kTokens, 4096));
  return c;
}

}  // namespace

class Llama final : public LlamaModel {
 public:
  Llama(const ConfigReader& json, Weights& weights) : LlamaModel(json, read_config(json, kLlama), read_biases(json), weights) {}
};

class Mistral final : public LlamaModel {
 public:
  Mistral(const ConfigReader& json, Weights& weights) : LlamaModel(json, read_mistral(json), {}, weights) {}
};

template std::unique_ptr<Model> make<Llama>(const ConfigReader&, Weights&);
template std::unique_ptr<Model> make<Mistral>(const ConfigReader&, Weights&);

}  // namespace tessera

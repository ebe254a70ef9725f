// modeling_llama.py, modeling_mistral.py, modeling_ministral.py, modeling_smollm3.py, modeling_arcee.py, modeling_granite.py of
// transformers 5.23, top to bottom: Llama and its kin, which order a layer alike.
#include "models/llama.h"

namespace tessera {
namespace {

class Attention {
 public:
  Attention(const Scope& at, const LlamaConfig& c, int64_t layer, const Ropes& ropes)
      : heads_(at, c, {"q_proj", "k_proj", "v_proj"}, c.attention_bias, c.attention_bias),
        rotates_(c.rotates.empty() || c.rotates[static_cast<size_t>(layer)]),
        q_rotary_(ropes.back().rotary),
        k_rotary_(ropes.front().rotary),
        params_(c.attention(layer)) {}

  Tensor operator()(const Tensor& x, const Step& step) const {
    auto [q, k, v] = heads_.split(x);
    if (rotates_) {
      q = ops::rotary_embedding(q, q_rotary_, step);
      k = ops::rotary_embedding(k, k_rotary_, step);
    }
    return heads_.join(ops::attention(q, k, v, step, params_));
  }

 private:
  Heads heads_;
  bool rotates_;
  const Rotary &q_rotary_, &k_rotary_;
  AttentionParams params_;
};

Tensor scaled(const Tensor& x, float factor) { return factor == 1 ? x : ops::mul(x, factor); }

class Layer {
 public:
  Layer(const Scope& at, const LlamaConfig& c, int64_t layer, const Ropes& ropes)
      : self_attn_(at / "self_attn", c, layer, ropes),
        mlp_(at / "mlp", c, c.gated ? Names{"gate_proj", "up_proj"} : Names{"up_proj"}, c.mlp_bias, c.gated),
        input_layernorm_(at / "input_layernorm", c.hidden_size, c.epsilon()),
        post_attention_layernorm_(at / "post_attention_layernorm", c.hidden_size, c.epsilon()),
        gated_(c.gated),
        residual_multiplier_(static_cast<float>(c.residual_multiplier)) {}

  Tensor operator()(Tensor x, const Step& step) const {
    x = ops::add(x, scaled(self_attn_(input_layernorm_(x), step), residual_multiplier_));
    return ops::add(x, scaled(mlp(post_attention_layernorm_(x)), residual_multiplier_));
  }

 private:
  Tensor mlp(const Tensor& x) const { return mlp_.down(gated_ ? ops::silu_mul(mlp_.up(x)) : ops::relu2(mlp_.up(x))); }

  Attention self_attn_;
  Mlp mlp_;
  Norm input_layernorm_, post_attention_layernorm_;
  bool gated_;
  float residual_multiplier_;
};

class Llama final : public Decoder<Layer> {
 public:
  Llama(const ConfigReader& json, const LlamaConfig& c, Weights& weights)
      : Decoder(c, c.ropes.empty() ? Ropes{{"all", read_rope(json, {c.head_dim, c.max_position_embeddings, c.rope_theta})}} : c.ropes,
                weights, [&](const Scope& at, int64_t layer, const Ropes& ropes) { return Layer(at, c, layer, ropes); }, 0,
                {"vision_tower.", "multi_modal_projector."}),
        embedding_multiplier_(static_cast<float>(c.embedding_multiplier)),
        logits_multiplier_(static_cast<float>(1 / c.logits_scaling)) {
    expect_text(json, "hidden_act", c.gated ? "silu" : "relu2");
  }

  Tensor forward(const Step& step) const override {
    Tensor x = scaled(head.embed(step), embedding_multiplier_);
    for (const Layer& layer : layers) x = layer(x, step);
    return scaled(head.logits(norm(ops::select_rows(x, step))), logits_multiplier_);
  }

 private:
  float embedding_multiplier_, logits_multiplier_;
};

Config llama_defaults() {
  return {.vocab_size = 32000,
          .hidden_size = 4096,
          .intermediate_size = 11008,
          .num_hidden_layers = 32,
          .num_attention_heads = 32,
          .max_position_embeddings = 2048,
          .rms_norm_eps = 1e-6,
          .tokens = {.eos = {2}, .bos = 1},
          .null_head_dim = true,
          .heads_divide_hidden = true};
}

LlamaConfig read_llama(const ConfigReader& json, const Config& defaults) {
  LlamaConfig c{read_config(json, defaults)};
  const auto bias = [&](const char* field) { return json.boolean(field, false) ? Bias::each_output : Bias::none; };
  c.attention_bias = bias("attention_bias");
  c.mlp_bias = bias("mlp_bias");
  return c;
}

// layer_types tell which layers slide; without them all do.
LlamaConfig read_ministral(const ConfigReader& json) {
  Config defaults = mistral_defaults();
  defaults.null_head_dim = false;
  if (!json.is_set("head_dim")) json.refuse("head_dim", "this architecture needs it");
  LlamaConfig c{read_config(json, defaults)};
  const int64_t window = json.integer("sliding_window", kTokens, 4096);  // of null the class makes no mask
  c.windows = read_windows(json, c.num_hidden_layers, window, [](int64_t) { return true; });
  return c;
}

// Some layers do not rotate; where windows are used and layer_types are absent, these slide.
LlamaConfig read_smollm3(const ConfigReader& json) {
  LlamaConfig c = read_llama(json, {.vocab_size = 128256,
                                    .hidden_size = 2048,
                                    .intermediate_size = 11008,
                                    .num_hidden_layers = 36,
                                    .num_attention_heads = 16,
                                    .num_key_value_heads = 4,
                                    .max_position_embeddings = 32768,
                                    .rms_norm_eps = 1e-6,
                                    .tie_word_embeddings = true,
                                    .tokens = {.eos = {128001}, .bos = 128000, .pad = 128004}});
  c.rope_theta = 2e6;
  const int64_t interval = json.integer("no_rope_layer_interval", {1, 1 << 12}, 4);
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) c.rotates.push_back((layer + 1) % interval != 0);
  if (json.is_set("no_rope_layers")) {
    const std::vector<int64_t> given = json.integers("no_rope_layers", {0, 1}, 1 << 12);
    if (given.size() < c.rotates.size()) json.refuse("no_rope_layers", "num_hidden_layers is ", c.num_hidden_layers);
    c.rotates.assign(given.begin(), given.begin() + c.num_hidden_layers);
  }
  const auto window = json.optional_integer("sliding_window", kTokens);
  const bool slides = json.boolean("use_sliding_window", false) && window;
  c.windows =
      read_windows(json, c.num_hidden_layers, window, [&](int64_t layer) { return slides && !c.rotates[static_cast<size_t>(layer)]; });
  return c;
}

LlamaConfig read_arcee(const ConfigReader& json) {
  Config defaults = llama_defaults();
  defaults.hidden_size = 2560;
  defaults.intermediate_size = 18432;
  defaults.max_position_embeddings = 4096;
  defaults.rms_norm_eps = 1e-5;
  defaults.tokens = {.eos = {128001}, .bos = 128000};
  LlamaConfig c = read_llama(json, defaults);
  c.gated = false;
  return c;
}

// Its multipliers are not rounded, and attention_multiplier is the scores' scale itself.
LlamaConfig read_granite(const ConfigReader& json) {
  Config defaults = llama_defaults();
  defaults.null_head_dim = defaults.heads_divide_hidden = false;
  LlamaConfig c = read_llama(json, defaults);
  const auto multiplier = [&](const char* field) { return json.number(field, {.above = 0, .max = 1e6}, 1); };
  c.embedding_multiplier = multiplier("embedding_multiplier");
  c.residual_multiplier = multiplier("residual_multiplier");
  c.logits_scaling = multiplier("logits_scaling");
  c.scale = multiplier("attention_multiplier");
  return c;
}

}  // namespace

Config mistral_defaults() {
  Config c = llama_defaults();
  c.intermediate_size = 14336;
  c.num_key_value_heads = 8;
  c.max_position_embeddings = 131072;
  c.heads_divide_hidden = false;
  return c;
}

// Every layer slides; where sliding_window is absent, over the class's 4096 positions.
LlamaConfig read_mistral(const ConfigReader& json) {
  if (json.contains("layer_types")) return read_ministral(json);  // as AutoConfig does
  LlamaConfig c{read_config(json, mistral_defaults())};
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), json.optional_integer("sliding_window", kTokens, 4096));
  return c;
}

std::unique_ptr<Model> make_llama(const ConfigReader& json, const LlamaConfig& c, Weights& weights) {
  return std::make_unique<Llama>(json, c, weights);
}

// The registry's.
std::unique_ptr<Model> make_llama(const ConfigReader& json, Weights& weights) {
  return make_llama(json, read_llama(json, llama_defaults()), weights);
}
std::unique_ptr<Model> make_mistral(const ConfigReader& json, Weights& weights) { return make_llama(json, read_mistral(json), weights); }
std::unique_ptr<Model> make_ministral(const ConfigReader& json, Weights& weights) {
  return make_llama(json, read_ministral(json), weights);
}
std::unique_ptr<Model> make_smollm3(const ConfigReader& json, Weights& weights) { return make_llama(json, read_smollm3(json), weights); }
std::unique_ptr<Model> make_arcee(const ConfigReader& json, Weights& weights) { return make_llama(json, read_arcee(json), weights); }
std::unique_ptr<Model> make_granite(const ConfigReader& json, Weights& weights) { return make_llama(json, read_granite(json), weights); }

}  // namespace tessera

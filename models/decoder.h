#pragma once
// What decoders share: names, shapes and packing. What a layer computes, and in which order, stands in each model's own file.
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/rope_config.h"
#include "checkpoint/weights.h"
#include "ops/model.h"
#include "ops/ops.h"

namespace tessera {

using Windows = std::vector<std::optional<int64_t>>;  // of each layer: the keys that a query sees; nullopt: all

inline constexpr IntegerRange kTokens{1, int64_t{1} << 40};  // of a context or a window

// A model's sizes, under Hugging Face's names. A class's defaults are a Config too.
struct Config {
  int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
  int64_t num_key_value_heads = 0;  // a default of 0: as many as query heads
  int64_t head_dim = 0;             // a default of 0: hidden_size / num_attention_heads, rounded down
  int64_t max_position_embeddings;
  double rms_norm_eps;
  bool tie_word_embeddings = false;
  SpecialTokens tokens = {};
  bool null_head_dim = false, heads_divide_hidden = false;  // whether the class takes a head_dim of null; refuses a rest of that division

  Windows windows = {};  // set by the model; empty: no layer has one
  double scale = 0;      // of attention's scores, set by the model; 0: 1 / sqrt(head_dim)
  std::optional<double> attention_softcap = {};

  float epsilon() const { return static_cast<float>(rms_norm_eps); }
  AttentionParams attention(int64_t layer) const;
};

// config.json (of a multimodal one: its text_config), and the class's defaults where it is silent. Throws FileError naming the field.
Config read_config(const ConfigReader& json, Config defaults);

// layer_types, or else the rule; a layer that slides has the window. Refuses one that slides where there is none.
Windows read_windows(const ConfigReader& json, int64_t layers, std::optional<int64_t> window, const std::function<bool(int64_t)>& slides);

// Refuses any other value of a field than the only one that is implemented.
void expect_text(const ConfigReader& json, std::string_view field, std::string_view value);
void expect_false(const ConfigReader& json, std::string_view field);

// A place among a checkpoint's names: at / "layers" / 3 / "self_attn".
class Scope {
 public:
  Scope(Weights& weights, std::string path) : weights_(weights), path_(std::move(path)) {}
  Scope operator/(std::string_view part) const { return {weights_, path_ + "." + std::string(part)}; }
  Scope operator/(int64_t number) const { return *this / std::to_string(number); }
  std::string weight(std::string_view part) const { return (*this / part).weight(); }
  std::string weight() const { return path_ + ".weight"; }
  Weights& weights() const { return weights_; }

 private:
  Weights& weights_;
  std::string path_;
};
using Names = std::initializer_list<std::string_view>;

class Norm {
 public:
  // Multiplies by offset + weight.
  Norm(const Scope& at, int64_t width, float epsilon, float offset = 0)
      : weight_(at.weights().take_norm(at.weight(), width, offset)), epsilon_(epsilon) {}
  Tensor operator()(const Tensor& x) const { return ops::rms_norm(x, weight_, epsilon_); }

 private:
  Tensor weight_;
  float epsilon_;
};

// Into heads and out of them. `qkv` names the projections: three, or a joined one.
class Heads {
 public:
  Heads(const Scope& at, const Config& c, Names qkv, Bias qkv_bias = Bias::none, Bias o_bias = Bias::none);
  QkvHeads split(const Tensor& x) const { return ops::nlp_create_qkv_heads(ops::linear(x, qkv_proj_), num_heads_, num_kv_heads_); }
  Tensor join(const Tensor& x) const { return ops::linear(ops::nlp_concat_heads(x), o_proj_); }

 private:
  Tensor qkv_proj_, o_proj_;
  int64_t num_heads_, num_kv_heads_;
};

// The linears of an MLP; `up` names gate and up, one that joins them, or, of one that is not gated, up alone. The activation stands between
// them in the model's file.
class Mlp {
 public:
  Mlp(const Scope& at, const Config& c, Names up, Bias bias = Bias::none, bool gated = true);
  Tensor up(const Tensor& x) const { return ops::linear(x, up_proj_); }
  Tensor down(const Tensor& x) const { return ops::linear(x, down_proj_); }

 private:
  Tensor up_proj_, down_proj_;
};

// The sizes of a mixture of experts, under Hugging Face's names but for the width of an expert.
struct MoeConfig {
  int64_t num_experts, num_experts_per_tok;
  int64_t intermediate_size;  // of one expert
  bool norm_topk_prob = false;
};
// `width_field` holds an expert's width.
MoeConfig read_moe(const ConfigReader& json, const MoeConfig& defaults, std::string_view width_field);

// The router and the experts that it chooses among, in place of an MLP.
class Experts {
 public:
  Experts(const Scope& at, const Config& c, const MoeConfig& moe);
  Tensor operator()(const Tensor& x) const { return ops::experts(x, ops::linear(x, gate_), gate_up_proj_, down_proj_, params_); }

 private:
  Tensor gate_, gate_up_proj_, down_proj_;
  RouterParams params_;
};

// The embedding, and the head that is tied to it or its own. As modeling_utils.py, tie_weights: where config.json ties them, equal values
// are tied, whatever their types, different ones are two weights, and one alone serves both.
class Head {
 public:
  Head(Weights& weights, const Config& c);
  Tensor embed(const Step& step) const { return ops::embedding(step, embed_tokens_); }
  Tensor logits(const Tensor& x) const { return ops::linear(x, lm_head_ ? lm_head_ : embed_tokens_); }
  bool tied() const { return tied_; }

 private:
  Tensor embed_tokens_, lm_head_;
  bool tied_;
};

// A factor that a model keeps in its weights' type, rounded as x is.
inline float rounded_as(const Tensor& x, float factor) { return x.dtype() == DataType::bfloat16 ? round_to_bfloat16(factor) : factor; }

using Ropes = std::vector<ModelSpec::Rope>;
ModelSpec spec_of(const Config& c, Ropes ropes);

// make(at, layer, ropes) makes a layer from the names below model.layers.N; `ropes` live as long as the model.
template <class Layer>
class Decoder : public Model {
 protected:
  // `skipped`: names of the checkpoint's other parts begin so.
  template <class Make>
  Decoder(const Config& c, Ropes ropes, Weights& weights, const Make& make, float norm_offset = 0, Names skipped = {})
      : Model(spec_of(c, std::move(ropes))), head(weights, c), norm(Scope(weights, "model.norm"), c.hidden_size, c.epsilon(), norm_offset) {
    layers.reserve(static_cast<size_t>(c.num_hidden_layers));
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) layers.push_back(make(Scope(weights, "model.layers") / i, i, spec_.ropes));
    spec_.tied = head.tied();
    for (const std::string_view prefix : skipped) weights.skip_prefix(prefix);
    weights.expect_all_taken();
  }

  Head head;
  Norm norm;
  std::vector<Layer> layers;
};

}  // namespace tessera

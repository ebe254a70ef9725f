#include "models/decoder.h"

#include <array>
#include <cmath>
#include <span>

#include "core/error.h"

namespace tessera {
namespace {

constexpr IntegerRange kSize{1, int64_t{1} << 24}, kCount{1, 1 << 12};
constexpr int64_t kLongestHead = 1024;

std::vector<std::string> names(const Scope& at, Names parts) {
  std::vector<std::string> all;
  for (const std::string_view part : parts) all.push_back(at.weight(part));
  return all;
}

int64_t read_head_dim(const ConfigReader& json, const Config& c, const Config& defaults) {
  if (json.contains("head_dim") && !(defaults.null_head_dim && !json.is_set("head_dim")))
    return json.integer("head_dim", {2, kLongestHead});
  return defaults.head_dim > 0 ? defaults.head_dim : c.hidden_size / c.num_attention_heads;
}

}  // namespace

AttentionParams Config::attention(int64_t layer) const {
  const double factor = scale > 0 ? scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
  return {.layer = layer,
          .scale = static_cast<float>(factor),
          .window = windows.empty() ? std::nullopt : windows[static_cast<size_t>(layer)],
          .softcap = attention_softcap ? std::optional(static_cast<float>(*attention_softcap)) : std::nullopt};
}

Config read_config(const ConfigReader& json, Config defaults) {
  Config c = defaults;
  c.vocab_size = json.integer("vocab_size", kSize, defaults.vocab_size);
  c.hidden_size = json.integer("hidden_size", kSize, defaults.hidden_size);
  c.intermediate_size = json.integer("intermediate_size", kSize, defaults.intermediate_size);
  c.num_hidden_layers = json.integer("num_hidden_layers", kCount, defaults.num_hidden_layers);
  c.num_attention_heads = json.integer("num_attention_heads", kCount, defaults.num_attention_heads);
  const int64_t kv_heads = defaults.num_key_value_heads > 0 ? defaults.num_key_value_heads : c.num_attention_heads;
  c.num_key_value_heads = json.optional_integer("num_key_value_heads", kCount, kv_heads).value_or(c.num_attention_heads);
  c.head_dim = read_head_dim(json, c, defaults);
  c.max_position_embeddings = json.integer("max_position_embeddings", kTokens, defaults.max_position_embeddings);
  c.rms_norm_eps = json.number("rms_norm_eps", {.above = 0, .max = 1}, defaults.rms_norm_eps);
  c.tie_word_embeddings = json.boolean("tie_word_embeddings", defaults.tie_word_embeddings);
  if (c.heads_divide_hidden && c.hidden_size % c.num_attention_heads != 0)
    json.refuse("hidden_size", "num_attention_heads, ", c.num_attention_heads, ", does not divide it");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    json.refuse("num_key_value_heads", "it does not divide num_attention_heads, ", c.num_attention_heads);
  if (c.head_dim % 2 != 0 || c.head_dim > kLongestHead)
    json.refuse(json.is_set("head_dim") ? "head_dim" : "hidden_size", "heads of ", c.head_dim,
                " values are not supported; an even number up to ", kLongestHead, " is");
  return c;
}

Windows read_windows(const ConfigReader& json, int64_t layers, std::optional<int64_t> window, const std::function<bool(int64_t)>& slides) {
  constexpr std::string_view kTypes = "layer_types";
  Windows windows;
  const auto add = [&](bool sliding) {
    if (sliding && !window) json.refuse(json.is_set(kTypes) ? kTypes : "sliding_window", "a layer slides, and there is no window for it");
    windows.push_back(sliding ? window : std::nullopt);
  };
  if (!json.is_set(kTypes)) {
    for (int64_t layer = 0; layer < layers; ++layer) add(slides(layer));
    return windows;
  }
  for (const std::string& type : json.texts(kTypes, static_cast<size_t>(kCount.max))) {
    if (type != "sliding_attention" && type != "full_attention") json.refuse(kTypes, "a layer is sliding_attention or full_attention");
    add(type == "sliding_attention");
  }
  if (static_cast<int64_t>(windows.size()) != layers) json.refuse(kTypes, "num_hidden_layers is ", layers);
  return windows;
}

void expect_text(const ConfigReader& json, std::string_view field, std::string_view value) {
  if (json.is_set(field) && json.text(field) != value) json.refuse(field, "only ", value, " is supported");
}

void expect_false(const ConfigReader& json, std::string_view field) {
  if (json.is_set(field) && json.boolean(field)) json.refuse(field, "it is not supported");
}

Heads::Heads(const Scope& at, const Config& c, Names qkv, Bias qkv_bias, Bias o_bias)
    : qkv_proj_(at.weights().take_qkv(names(at, qkv), c.hidden_size, {c.num_attention_heads, c.num_key_value_heads, c.head_dim}, qkv_bias)),
      o_proj_(at.weights().take(at.weight("o_proj"), {1, 1, c.hidden_size, c.num_attention_heads * c.head_dim}, Role::output, o_bias)),
      num_heads_(c.num_attention_heads),
      num_kv_heads_(c.num_key_value_heads) {}

Mlp::Mlp(const Scope& at, const Config& c, Names up, Bias bias, bool gated)
    : up_proj_(at.weights().take_joined(
          names(at, up),
          std::vector(up.size(), Shape{1, 1, (gated ? 2 : 1) * c.intermediate_size / static_cast<int64_t>(up.size()), c.hidden_size}),
          gated ? Role::gate_up : Role::up, bias)),
      down_proj_(at.weights().take(at.weight("down_proj"), {1, 1, c.hidden_size, c.intermediate_size}, Role::down, bias)) {}

MoeConfig read_moe(const ConfigReader& json, const MoeConfig& defaults, std::string_view width_field) {
  // num_local_experts is another name of the same field.
  const char* const count = json.is_set("num_local_experts") && !json.is_set("num_experts") ? "num_local_experts" : "num_experts";
  MoeConfig moe{.num_experts = json.integer(count, kCount, defaults.num_experts),
                .num_experts_per_tok = json.integer("num_experts_per_tok", kCount, defaults.num_experts_per_tok),
                .intermediate_size = json.integer(width_field, kSize, defaults.intermediate_size),
                .norm_topk_prob = json.boolean("norm_topk_prob", defaults.norm_topk_prob)};
  if (moe.num_experts_per_tok > moe.num_experts) json.refuse("num_experts_per_tok", "there are ", moe.num_experts, " experts");
  return moe;
}

Experts::Experts(const Scope& at, const Config& c, const MoeConfig& moe)
    : gate_(at.weights().take(at.weight("gate"), {1, 1, moe.num_experts, c.hidden_size}, Role::router)),
      params_{.top_k = moe.num_experts_per_tok, .norm_topk_prob = moe.norm_topk_prob} {
  std::vector<std::string> up, down;
  for (int64_t expert = 0; expert < moe.num_experts; ++expert) {
    const Scope one = at / "experts" / expert;
    up.insert(up.end(), {one.weight("gate_proj"), one.weight("up_proj")});
    down.push_back(one.weight("down_proj"));
  }
  const Shape in{1, 1, moe.intermediate_size, c.hidden_size}, out{1, 1, c.hidden_size, moe.intermediate_size};
  gate_up_proj_ = at.weights().take_experts(up, std::vector{in, in}, moe.num_experts, Role::experts_gate_up);
  down_proj_ = at.weights().take_experts(down, std::vector{out}, moe.num_experts, Role::experts_down);
}

Head::Head(Weights& weights, const Config& c) {
  constexpr std::string_view kEmbedding = "model.embed_tokens.weight", kHead = "lm_head.weight";
  const Shape shape{1, 1, c.vocab_size, c.hidden_size};
  const bool both = weights.has(kEmbedding) && weights.has(kHead);
  tied_ = c.tie_word_embeddings && (!both || weights.equal(kEmbedding, kHead));
  if (tied_) {
    embed_tokens_ = weights.take(weights.has(kHead) && !both ? kHead : kEmbedding, shape, Role::tied_embedding);
    if (both) weights.skip_prefix(kHead);
    return;
  }
  if (c.tie_word_embeddings)
    weights.note(message(kHead, " differs from ", kEmbedding, " although config.json ties them: both are used, as transformers does"));
  embed_tokens_ = weights.take(kEmbedding, shape, Role::embedding);
  check<FileError>(weights.has(kHead) || !weights.has(kEmbedding), "the checkpoint lacks tensor ", kHead,
                   ", which config.json does not tie to ", kEmbedding,
                   ": it was saved without its head; take the checkpoint of the whole language model");
  lm_head_ = weights.take(kHead, shape, Role::head);
}

ModelSpec spec_of(const Config& c, Ropes ropes) {
  ModelSpec spec{.vocab_size = c.vocab_size,
                 .max_position_embeddings = c.max_position_embeddings,
                 .tied = c.tie_word_embeddings,
                 .attention_softcap = c.attention_softcap.has_value(),
                 .ropes = std::move(ropes),
                 .tokens = c.tokens};
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    spec.cache.layers.push_back({c.num_key_value_heads, c.head_dim, c.attention(layer).window});
  for (const auto& [layers, rotary] : spec.ropes)
    if (!rotary.long_inverse_frequencies.empty()) spec.recompute_after = rotary.long_after;
  return spec;
}

}  // namespace tessera

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
  return {
      .layer = layer, .scale = static_cast<float>(factor), .window = windows.empty() ? std::nullopt : windows[static_cast<size_t>(layer)]};
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

GatedMlp::GatedMlp(const Scope& at, const Config& c, Names gate_up, Bias bias)
    : gate_up_proj_(at.weights().take_joined(
          names(at, gate_up),
          std::vector(gate_up.size(), Shape{1, 1, 2 * c.intermediate_size / static_cast<int64_t>(gate_up.size()), c.hidden_size}),
          Role::gate_up, bias)),
      down_proj_(at.weights().take(at.weight("down_proj"), {1, 1, c.hidden_size, c.intermediate_size}, Role::down, bias)) {}

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
                 .ropes = std::move(ropes),
                 .tokens = c.tokens};
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    spec.cache.layers.push_back({c.num_key_value_heads, c.head_dim, c.attention(layer).window});
  for (const auto& [layers, rotary] : spec.ropes)
    if (!rotary.long_inverse_frequencies.empty()) spec.recompute_after = rotary.long_after;
  return spec;
}

}  // namespace tessera

#include "tiny_models.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "models/registry.h"

namespace tessera {

void TinyCheckpoint::add(const std::string& name, std::vector<int64_t> shape, float scale) {
  std::minstd_rand random(static_cast<uint32_t>(std::hash<std::string>()(name)));
  std::uniform_real_distribution<float> values(-scale, scale);
  size_t count = 1;
  for (int64_t dimension : shape) count *= static_cast<size_t>(dimension);
  std::vector<uint16_t>& bits = values_.emplace_back(count);
  for (uint16_t& b : bits) b = to_bfloat16(values(random)).bits;
  names_.push_back(name);
  shapes_.push_back(std::move(shape));
}

void TinyCheckpoint::scale(const std::string& name, float factor) {
  const auto index = std::find(names_.begin(), names_.end(), name) - names_.begin();
  for (uint16_t& bits : values_.at(static_cast<size_t>(index))) bits = to_bfloat16(to_float(bfloat16{bits}) * factor).bits;
}

std::unique_ptr<MemorySource> TinyCheckpoint::source() const {
  std::vector<MemorySource::Item> items;
  for (size_t i = 0; i < names_.size(); ++i)
    items.push_back({names_[i], StoredType::bfloat16, shapes_[i], std::as_bytes(std::span(values_[i]))});
  return std::make_unique<MemorySource>(items);
}

std::unique_ptr<Model> TinyCheckpoint::load(Device& device, const ModelOptions& options) const {
  const auto weights_source = source();
  Weights weights(*weights_source, device, options);
  return load(weights);
}

std::unique_ptr<Model> TinyCheckpoint::load(Weights& weights) const {
  return make_model(architecture_, ConfigReader(config_, "config.json"), weights);
}

TinyCheckpoint tiny_gemma3(int64_t window) {
  constexpr int64_t kVocab = 300, kHidden = 96, kInner = 160, kHeads = 4, kHeadDim = 64, kLayers = 3;
  TinyCheckpoint tiny("Gemma3ForCausalLM", {{"vocab_size", kVocab},
                                            {"hidden_size", kHidden},
                                            {"intermediate_size", kInner},
                                            {"num_hidden_layers", kLayers},
                                            {"num_attention_heads", kHeads},
                                            {"num_key_value_heads", 1},
                                            {"head_dim", kHeadDim},
                                            {"sliding_window", window},
                                            {"sliding_window_pattern", 3},
                                            {"query_pre_attn_scalar", 48},
                                            {"max_position_embeddings", 4096}});
  tiny.add("model.embed_tokens.weight", {kVocab, kHidden}, 0.5f);
  tiny.add("model.norm.weight", {kHidden}, 0.5f);
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tiny.add(layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden}, 0.2f);
    tiny.add(layer + "self_attn.k_proj.weight", {kHeadDim, kHidden}, 0.2f);
    tiny.add(layer + "self_attn.v_proj.weight", {kHeadDim, kHidden}, 0.2f);
    tiny.add(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim}, 0.2f);
    tiny.add(layer + "self_attn.q_norm.weight", {kHeadDim}, 0.5f);
    tiny.add(layer + "self_attn.k_norm.weight", {kHeadDim}, 0.5f);
    tiny.add(layer + "mlp.gate_proj.weight", {kInner, kHidden}, 0.2f);
    tiny.add(layer + "mlp.up_proj.weight", {kInner, kHidden}, 0.2f);
    tiny.add(layer + "mlp.down_proj.weight", {kHidden, kInner}, 0.2f);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      tiny.add(layer + norm + ".weight", {kHidden}, 0.5f);
  }
  return tiny;
}

TinyCheckpoint tiny_phi3(bool longrope) {
  constexpr int64_t kVocab = 300, kHidden = 384, kInner = 200, kHeads = 4, kLayers = 2, kHeadDim = kHidden / kHeads;
  Json config{{"vocab_size", kVocab},           {"hidden_size", kHidden},        {"intermediate_size", kInner},
              {"num_hidden_layers", kLayers},   {"num_attention_heads", kHeads}, {"num_key_value_heads", kHeads},
              {"max_position_embeddings", 4096}};
  if (longrope) {
    std::vector<double> short_factor, long_factor;
    for (int64_t i = 0; i < kHeadDim / 2; ++i) {
      short_factor.push_back(1.0 + 0.01 * static_cast<double>(i));
      long_factor.push_back(1.0 + 0.2 * static_cast<double>(i));
    }
    config["original_max_position_embeddings"] = 64;
    config["rope_scaling"] = {{"type", "longrope"}, {"short_factor", short_factor}, {"long_factor", long_factor}};
  }
  TinyCheckpoint tiny("Phi3ForCausalLM", config);
  tiny.add("model.embed_tokens.weight", {kVocab, kHidden}, 0.5f);
  tiny.add("lm_head.weight", {kVocab, kHidden}, 0.2f);
  tiny.add("model.norm.weight", {kHidden}, 1.0f);
  for (int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tiny.add(layer + "self_attn.qkv_proj.weight", {3 * kHidden, kHidden}, 0.15f);
    tiny.add(layer + "self_attn.o_proj.weight", {kHidden, kHidden}, 0.15f);
    tiny.add(layer + "mlp.gate_up_proj.weight", {2 * kInner, kHidden}, 0.15f);
    tiny.add(layer + "mlp.down_proj.weight", {kHidden, kInner}, 0.15f);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) tiny.add(layer + norm + ".weight", {kHidden}, 1.0f);
  }
  return tiny;
}

std::vector<TokenId> random_tokens(size_t count, uint32_t seed) {
  std::minstd_rand random(seed + 1);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 300);
  return tokens;
}

}  // namespace tessera

#pragma once
// The models of llama.cpp, for a file that reads another config.json into one of them.
#include "models/decoder.h"

namespace tessera {

// In what Llama's kin differ, sizes aside.
struct LlamaConfig : Config {
  Bias attention_bias = Bias::none, mlp_bias = Bias::none;
  double rope_theta = 10000;
  Ropes ropes = {};                                                              // of keys, and of queries if theirs differ; empty: plain
  std::vector<bool> rotates = {};                                                // SmolLM3's layers; empty: all do
  bool gated = true;                                                             // Arcee's MLP is not
  double embedding_multiplier = 1, residual_multiplier = 1, logits_scaling = 1;  // Granite's
};

Config mistral_defaults();
LlamaConfig read_mistral(const ConfigReader& json);
std::unique_ptr<Model> make_llama(const ConfigReader& json, const LlamaConfig& config, Weights& weights);

}  // namespace tessera

#pragma once
// The rotary embeddings of config.json, in the old spelling (rope_theta, rope_local_base_freq, rope_scaling) and in the new one
// (rope_parameters), read as transformers 5.23 does. Everything throws FileError naming the field.
#include <cstdint>
#include <vector>

#include "checkpoint/config.h"

namespace tessera {

// Of one kind of Gemma 3's layers. factor divides the frequencies ("linear"); 1: there is none.
struct LinearRope {
  double theta;
  double factor;
};

struct Gemma3Rope {
  LinearRope full, sliding;
};

// From the text config. As Gemma3TextConfig.convert_rope_params_to_dict: rope_scaling goes into the full layers only, and there its
// old key "type" counts for nothing beside the "rope_type" that is always there, so {"type": "linear", "factor": 8} scales nothing.
// Types but "default" and "linear" are refused.
Gemma3Rope read_gemma3_rope(const ConfigReader& config);

struct Phi3Rope {
  int64_t rotary_dim;  // values of a head that rotate; even
  double theta;
  // [rotary_dim / 2] each, dividing the frequencies of sequences up to original_max_position_embeddings and of longer ones.
  // Both empty: no LongRoPE.
  std::vector<float> short_factor, long_factor;
  int64_t original_max_position_embeddings;
  float attention_factor;  // multiplies cos and sin, short and long
};

// As Phi3Config.convert_rope_params_to_dict: "yarn" means longrope. So does "su" here, the name of longrope in the first Phi-3
// revisions, which transformers 5.23 means to rename too but refuses. original_max_position_embeddings is the top-level one (4096 when
// absent), whatever stands inside. Types but "default" and these are refused.
Phi3Rope read_phi3_rope(const ConfigReader& config, int64_t head_dim, int64_t max_position_embeddings);

}  // namespace tessera

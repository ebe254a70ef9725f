#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "checkpoint/config.h"
#include "ops/rotary.h"

namespace tessera {

enum class RopeType { standard, linear, dynamic, llama3, yarn, longrope };
struct RopeName {
  std::string_view name;  // of rope_type
  RopeType type;
};
inline constexpr RopeName kRopeTypes[] = {{"default", RopeType::standard}, {"linear", RopeType::linear}, {"dynamic", RopeType::dynamic},
                                          {"llama3", RopeType::llama3},    {"yarn", RopeType::yarn},     {"longrope", RopeType::longrope}};

// What a model class knows of its rotary embedding, the rest being config.json's.
struct RopeDefaults {
  int64_t head_dim, max_position_embeddings;
  double theta = 1e4;  // where config.json names none
  std::optional<int64_t> original_max_position_embeddings =
      {};                                        // of a class that has such a field: its default. It counts, and not the rope's own
  bool rotates_a_part = false;                   // partial_rotary_factor may be below 1
  std::span<const RopeName> types = kRopeTypes;  // others are refused
};

// The rotary embedding of config.json, in the old spelling (rope_scaling, rope_theta) and in the new one (rope_parameters), as transformers
// 5.23 reads it (RotaryEmbeddingConfigMixin). "dynamic" is exact up to max_position_embeddings, where it is the plain one. Everything
// throws FileError naming the field; a dictionary with an entry for each type of layers is refused.
Rotary read_rope(const ConfigReader& config, const RopeDefaults& defaults);

// The same where each type of layers, "full_attention" or "sliding_attention", has an entry of its own in rope_parameters; `scaling`, if
// not empty, is an object in the old spelling that overrides it, and `theta_field` holds theta there. As
// Gemma3TextConfig.convert_rope_params_to_dict: without rope_parameters the old key "type" counts for nothing, so {"type": "linear",
// "factor": 8} scales nothing.
Rotary read_layer_rope(const ConfigReader& config, std::string_view layer_type, std::string_view scaling, std::string_view theta_field,
                       const RopeDefaults& defaults);

}  // namespace tessera

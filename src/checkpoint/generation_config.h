#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "checkpoint/config.h"
#include "core/special_tokens.h"
#include "core/types.h"

namespace tessera {

// How a checkpoint wants to be sampled. Unset fields have transformers' defaults (GenerationMixin's, version 5.23).
struct GenerationConfig {
  SpecialTokens tokens;
  bool do_sample = false;
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 50;        // 0: all
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
};

// Reads generation_config.json (`file`). Special tokens that it doesn't name come from `config` (config.json), then from its text_config,
// then from `defaults` (without those outside the vocabulary). A null counts as unset. Throws FileError naming the field: a value
// out of its range, an id outside [0, vocab_size).
GenerationConfig read_generation_config(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults,
                                        int64_t vocab_size);

}  // namespace tessera

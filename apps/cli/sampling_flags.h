#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/generation_config.h"
#include "generate/sampler.h"

namespace CLI {
class App;
}

namespace tessera {

// The flags that choose the next token; what is not given comes from the checkpoint's generation_config.json.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID+BIAS", "ID-BIAS"
  int64_t min_new_tokens = 0;
  bool ignore_eos = false;
};

void add_sampling_flags(CLI::App& command, SamplingFlags& flags);

// Throws std::invalid_argument naming the value that is out of its range. Without a seed, a random one.
SamplingParams sampling_params(const SamplingFlags& flags, const GenerationConfig& config, int64_t vocab_size);

}  // namespace tessera

#pragma once
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "checkpoint/generation_config.h"
#include "generate/sampler.h"

namespace tessera {

// What someone asks of the next token; what is not set is the checkpoint's generation config's.
struct SamplingOptions {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::unordered_map<TokenId, double> logit_bias = {};
  std::optional<int64_t> min_new_tokens;
  bool ignore_eos = false;
};

// Throws std::invalid_argument naming the value that is out of its range. Without a seed, a random one.
SamplingParams sampling_params(const SamplingOptions& options, const GenerationConfig& config, int64_t vocab_size);

}  // namespace tessera

#include "engine/sampling_options.h"

#include <random>

namespace tessera {

SamplingParams sampling_params(const SamplingOptions& options, const GenerationConfig& config, int64_t vocab_size) {
  const bool asked = options.temperature || options.top_k || options.top_p || options.min_p;  // who sets one of them wants to sample
  SamplingParams params;
  params.temperature = options.temperature.value_or(config.do_sample || asked ? config.temperature : 0.0);
  params.top_k = options.top_k.value_or(config.top_k);
  params.top_p = options.top_p.value_or(config.top_p);
  params.min_p = options.min_p.value_or(config.min_p);
  params.repetition_penalty = options.repetition_penalty.value_or(config.repetition_penalty);
  params.presence_penalty = options.presence_penalty.value_or(0.0);
  params.frequency_penalty = options.frequency_penalty.value_or(0.0);
  params.logit_bias = options.logit_bias;
  params.processors = config.processors;
  params.min_new_tokens = options.min_new_tokens.value_or(config.min_new_tokens);
  if (options.min_new_tokens) params.processors.min_length = 0;
  params.ignore_eos = options.ignore_eos;
  params.seed = options.seed ? *options.seed : std::random_device()();
  check_sampling(params, vocab_size);
  return params;
}

}  // namespace tessera

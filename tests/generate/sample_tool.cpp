// The sampler for tests in other languages: one JSON request a line on stdin, one JSON answer a line on stdout.
//   {"logits": [...], "tokens": [...], "prompt": N, "ends": [...], "params": {...}, "max_length": N, "draws": N}
//     -> {"candidates": [[ID, PROBABILITY], ...], "drawn": [ID, ...]}, of temperature 0: {"drawn": [ID]}
// params has the fields of SamplingParams and ProcessorParams; logit_bias is a list of [ID, BIAS].
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "generate/sampler.h"

namespace {

using Json = nlohmann::json;

tessera::ProcessorParams processors_of(const Json& json) {
  tessera::ProcessorParams params;
  const auto read = [&](const char* field, auto& value) {
    if (json.contains(field)) json[field].get_to(value);
  };
  read("sequence_bias", params.sequence_bias);
  read("encoder_repetition_penalty", params.encoder_repetition_penalty);
  read("no_repeat_ngram_size", params.no_repeat_ngram_size);
  read("encoder_no_repeat_ngram_size", params.encoder_no_repeat_ngram_size);
  read("bad_words_ids", params.bad_words_ids);
  read("min_length", params.min_length);
  read("forced_eos_token_id", params.forced_eos_token_id);
  read("remove_invalid_values", params.remove_invalid_values);
  read("suppress_tokens", params.suppress_tokens);
  read("typical_p", params.typical_p);
  read("epsilon_cutoff", params.epsilon_cutoff);
  read("eta_cutoff", params.eta_cutoff);
  if (json.contains("top_h")) params.top_h = json["top_h"].get<double>();
  if (json.contains("exponential_decay_length_penalty"))
    params.exponential_decay_length_penalty = json["exponential_decay_length_penalty"].get<std::pair<int64_t, double>>();
  return params;
}

tessera::SamplingParams params_of(const Json& json) {
  tessera::SamplingParams params;
  params.temperature = json.value("temperature", params.temperature);
  params.top_k = json.value("top_k", params.top_k);
  params.top_p = json.value("top_p", params.top_p);
  params.min_p = json.value("min_p", params.min_p);
  params.repetition_penalty = json.value("repetition_penalty", params.repetition_penalty);
  params.presence_penalty = json.value("presence_penalty", params.presence_penalty);
  params.frequency_penalty = json.value("frequency_penalty", params.frequency_penalty);
  params.min_new_tokens = json.value("min_new_tokens", params.min_new_tokens);
  params.ignore_eos = json.value("ignore_eos", params.ignore_eos);
  params.processors = processors_of(json);
  params.seed = json.value("seed", params.seed);
  for (const Json& bias : json.value("logit_bias", Json::array()))
    params.logit_bias[bias[0].get<tessera::TokenId>()] = bias[1].get<double>();
  return params;
}

Json answer(const Json& request) {
  const auto logits = request["logits"].get<std::vector<float>>();
  const auto tokens = request["tokens"].get<std::vector<tessera::TokenId>>();
  const auto prompt = request["prompt"].get<size_t>();
  const tessera::SamplingParams params = params_of(request["params"]);
  tessera::check_sampling(params, static_cast<int64_t>(logits.size()));
  tessera::Sampler sampler(params, request["ends"].get<std::vector<tessera::TokenId>>());
  if (request.contains("max_length")) sampler.set_max_length(request["max_length"].get<int64_t>());
  Json reply{{"drawn", Json::array()}};
  const bool greedy = params.temperature == 0;
  for (uint64_t i = 0; i < (greedy ? 1 : request["draws"].get<uint64_t>()); ++i)
    reply["drawn"].push_back(sampler.sample(logits, tokens, prompt, i));
  if (greedy) return reply;
  for (const tessera::TokenProbability& c : sampler.candidates(logits, tokens, prompt))
    reply["candidates"].push_back({c.token, c.probability});
  return reply;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json reply;
    try {
      reply = answer(Json::parse(line));
    } catch (const std::exception& error) {
      reply = {{"error", error.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}

// The sampler for tests in other languages: one JSON request a line on stdin, one JSON answer a line on stdout.
//   {"logits": [...], "tokens": [...], "prompt": N, "ends": [...], "params": {...}, "draws": N}
//     -> {"candidates": [[ID, PROBABILITY], ...], "drawn": [ID, ...]}, of temperature 0: {"drawn": [ID]}
// params has the fields of SamplingParams; logit_bias is a list of [ID, BIAS].
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "generate/sampler.h"

namespace {

using Json = nlohmann::json;

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

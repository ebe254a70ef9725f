#include "cli/sampling_flags.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <random>

#include "core/error.h"

namespace tessera {
namespace {

std::pair<TokenId, double> parse_bias(const std::string& text) {
  const size_t sign = text.find_first_of("+-", 1);
  TokenId token = 0;
  double bias = 0;
  const char* end = text.data() + text.size();
  const char* middle = text.data() + std::min(sign, text.size());
  const bool token_read = std::from_chars(text.data(), middle, token) == std::from_chars_result{middle, std::errc()};
  const char* value = sign < text.size() && *middle == '+' ? middle + 1 : middle;
  const bool bias_read = value < end && std::from_chars(value, end, bias) == std::from_chars_result{end, std::errc()};
  check(token_read && bias_read, "--logit-bias ", text, ": is not a token id with a signed bias, as in 106-5 or 42+1.5");
  return {token, bias};
}

// CLI11 itself would wrap a negative number and cut a larger one.
std::string is_seed(const std::string& text) {
  uint64_t seed = 0;
  const char* end = text.data() + text.size();
  const bool whole = std::from_chars(text.data(), end, seed) == std::from_chars_result{end, std::errc()};
  return whole ? "" : "'" + text + "' is no integer from 0 to 2^64 - 1";
}

}  // namespace

void add_sampling_flags(CLI::App& command, SamplingFlags& flags) {
  const std::string group = "Sampling (generation_config.json's values if not given)";
  const auto add = [&](const std::string& flag, auto& target, const std::string& help) {
    return command.add_option(flag, target, help)->group(group);
  };
  add("--temp", flags.temperature, "Temperature; 0 is greedy");
  add("--top-k", flags.top_k, "Sample from the k most probable tokens; 0: all");
  add("--top-p", flags.top_p, "Sample from the most probable tokens that reach this probability together");
  add("--min-p", flags.min_p, "Drop tokens less probable than this part of the most probable");
  add("--repeat-penalty", flags.repetition_penalty, "Divide the logits of tokens seen in prompt or output by this; 1: off");
  add("--presence-penalty", flags.presence_penalty, "Lower the logit of a token in the output by this");
  add("--frequency-penalty", flags.frequency_penalty, "Lower it by this for each time that the token stands in the output");
  add("-l,--logit-bias", flags.logit_bias, "Add to a token's logit, as in 106-5 or 42+1.5; may be given several times")
      ->type_name("ID+BIAS")
      ->take_all();
  add("--min-new-tokens", flags.min_new_tokens, "No end token before so many new tokens")->check(CLI::NonNegativeNumber);
  command.add_flag("--ignore-eos", flags.ignore_eos, "Go on past end tokens")->group(group);
  add("-s,--seed", flags.seed, "Makes sampling repeatable; a random one, printed at the end, if not given")->check(is_seed);
}

SamplingParams sampling_params(const SamplingFlags& flags, const GenerationConfig& config, int64_t vocab_size) {
  const bool asked = flags.temperature || flags.top_k || flags.top_p || flags.min_p;  // a flag of sampling asks for sampling
  SamplingParams params;
  params.temperature = flags.temperature.value_or(config.do_sample || asked ? config.temperature : 0.0);
  params.top_k = flags.top_k.value_or(config.top_k);
  params.top_p = flags.top_p.value_or(config.top_p);
  params.min_p = flags.min_p.value_or(config.min_p);
  params.repetition_penalty = flags.repetition_penalty.value_or(config.repetition_penalty);
  params.presence_penalty = flags.presence_penalty.value_or(0.0);
  params.frequency_penalty = flags.frequency_penalty.value_or(0.0);
  for (const std::string& text : flags.logit_bias) params.logit_bias.insert(parse_bias(text));
  params.min_new_tokens = flags.min_new_tokens;
  params.ignore_eos = flags.ignore_eos;
  params.seed = flags.seed ? *flags.seed : std::random_device()();
  check_sampling(params, vocab_size);
  return params;
}

}  // namespace tessera

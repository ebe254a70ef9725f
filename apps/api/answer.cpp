#include "api/answer.h"

#include <algorithm>

namespace tessera::api {
namespace {

constexpr double kLeastLogprob = -9999;  // JSON has no infinity

// As it stands behind another token: a decoder may drop a text's first space.
std::string text_of(TokenId id, const Tokenizer& tokenizer) {
  const TokenId once[] = {id}, twice[] = {id, id};
  return tokenizer.decode(twice, {}).substr(tokenizer.decode(once, {}).size());
}

TokenText token_text(TokenId id, double logprob, const Tokenizer& tokenizer) {
  return {text_of(id, tokenizer), std::max(logprob, kLeastLogprob)};
}

}  // namespace

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

TokenChoice token_choice(const TokenLogprobs& logprobs, const Tokenizer& tokenizer) {
  TokenChoice choice{.chosen = token_text(logprobs.token, logprobs.logprob, tokenizer), .top = {}};
  for (const auto& [id, logprob] : logprobs.top) choice.top.push_back(token_text(id, logprob, tokenizer));
  return choice;
}

std::vector<TokenChoice> prompt_choices(std::span<const TokenId> prompt, std::span<const TokenLogprobs> logprobs,
                                        const Tokenizer& tokenizer) {
  std::vector<TokenChoice> choices{{.chosen = {text_of(prompt.front(), tokenizer), 0}, .top = {}, .known = false}};
  for (const TokenLogprobs& one : logprobs) choices.push_back(token_choice(one, tokenizer));
  return choices;
}

}  // namespace tessera::api

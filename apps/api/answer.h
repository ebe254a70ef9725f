#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/logprobs.h"
#include "text/tokenizer.h"

namespace tessera::api {

using Json = nlohmann::ordered_json;

struct TokenText {
  std::string text;  // U+FFFD where it alone is no whole character
  double logprob;    // -9999 at least
};

// A token of a text, and the most probable ones in its place.
struct TokenChoice {
  TokenText chosen;
  std::vector<TokenText> top;
  bool known = true;  // false: a text's first token has no probability
};

struct Choice {
  std::string text;
  std::optional<std::vector<TokenChoice>> tokens;  // if their log-probabilities were asked for
  std::string finish_reason;                       // stop or length
};

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0;  // the latter among the former
  int64_t completion_tokens = 0;
};

struct AnswerHeader {
  std::string id, model;
  int64_t created;  // seconds since 1970
};

Json usage_json(const Usage& usage);

TokenChoice token_choice(const TokenLogprobs& logprobs, const Tokenizer& tokenizer);

// The tokens of an echoed prompt: `logprobs` are of all but the first.
std::vector<TokenChoice> prompt_choices(std::span<const TokenId> prompt, std::span<const TokenLogprobs> logprobs,
                                        const Tokenizer& tokenizer);

}  // namespace tessera::api

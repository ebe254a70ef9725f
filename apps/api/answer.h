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
  TokenId id = 0;
  int64_t rank = 0;  // 1: none is more probable; 0: not known
};

// A token of a text, and the most probable ones in its place.
struct TokenChoice {
  TokenText chosen;
  std::vector<TokenText> top;
  bool known = true;  // false: a text's first token has no probability
};

struct ToolCall {
  std::string id, name, arguments;  // the last a JSON object's text
};

struct Choice {
  std::string text;
  std::string reasoning;  // what stands between the tokens that begin and end a model's thinking
  std::vector<ToolCall> tool_calls;
  std::optional<std::vector<TokenChoice>> tokens;         // if their log-probabilities were asked for
  std::optional<std::vector<TokenChoice>> prompt_tokens;  // the same of the prompt's
  std::optional<std::vector<TokenId>> ids, prompt_ids;    // return_token_ids
  std::string finish_reason;                              // stop, length or tool_calls
  std::string stop_string;                                // that ended it; "": none did
};

// What has come of a choice since the last: each part goes on from there. Appended in order they are the Choice.
struct AnswerDelta {
  struct Call {
    size_t index;          // among the choice's tool calls
    std::string id, name;  // with the first of a call, else empty
    std::string arguments;
  };
  size_t choice = 0;
  std::string text, reasoning;
  std::vector<Call> calls;
  std::vector<TokenChoice> tokens, prompt_tokens;  // if they were asked for
  std::vector<TokenId> ids, prompt_ids;            // if they were asked for
  std::string finish_reason, stop_string;          // with the choice's last; empty before it

  // What came behind it, of the same choice.
  void append(AnswerDelta next);
};

void append(Choice& choice, const AnswerDelta& delta);
// The whole of it at once.
AnswerDelta whole_delta(const Choice& choice);

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0;  // the latter among the former, as below
  int64_t completion_tokens = 0, reasoning_tokens = 0;
};

struct AnswerHeader {
  std::string id, model;
  int64_t created;  // seconds since 1970
};

Json usage_json(const Usage& usage);
// A list of an entry for each token: null where it is not known, else its id, and those of the most probable ones, with "logprob", "rank"
// and "decoded_token".
Json prompt_logprobs_json(std::span<const TokenChoice> tokens);

// The JSON's text on one line, with U+FFFD for what is no UTF-8.
std::string dumped(const Json& json);
// The same for clients too that take Unicode's other ends of lines for such.
std::string json_text(const Json& json);

TokenChoice token_choice(const TokenLogprobs& logprobs, const Tokenizer& tokenizer);

// The tokens of an echoed prompt: `logprobs` are of all but the first.
std::vector<TokenChoice> prompt_choices(std::span<const TokenId> prompt, std::span<const TokenLogprobs> logprobs,
                                        const Tokenizer& tokenizer);

}  // namespace tessera::api

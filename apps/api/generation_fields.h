#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "api/fields.h"
#include "core/types.h"
#include "generate/grammar_source.h"

namespace tessera::api {

constexpr int64_t kMostTokens = int64_t{1} << 30;  // that a field may ask for
constexpr int64_t kMostTop = 20;                   // of the most probable tokens, with their log-probabilities

// What chat completions and completions have in common. What is not set was not given.
struct GenerationFields {
  std::optional<std::string> model;
  std::optional<double> temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
  std::optional<int64_t> top_k;  // 0: all
  std::optional<int64_t> min_tokens, max_tokens;
  bool cut_max_tokens = false;  // to the room that there is
  std::optional<bool> ignore_eos;
  std::optional<uint64_t> seed;
  std::unordered_map<TokenId, double> logit_bias;
  std::optional<std::vector<std::string>> stop;
  std::vector<TokenId> stop_token_ids;
  std::optional<int64_t> logprobs;  // of each token, and of so many of the most probable
  int64_t n = 1;
  int priority = 0;
  std::string cache_salt;
  std::optional<int64_t> prompt_logprobs;  // of each token of the prompt but the first
  std::optional<GrammarSource> format;     // response_format or structured_outputs
  std::string format_param = "";           // the field that it comes from
  bool return_token_ids = false;
  bool include_stop = false;  // include_stop_str_in_output
  bool skip_special_tokens = true;
  bool stream = false, include_usage = false, continuous_usage = false;  // stream_options
};

// Reads all but logprobs and max_tokens, whose names or limits differ. What does no harm is left alone; throws FieldError for what asks for
// something that is not there.
GenerationFields read_generation_fields(Fields& body, int64_t vocab_size);
// The stop strings: a text of 1 to 1024 bytes, or at most 16 such. Throws FieldError.
std::optional<std::vector<std::string>> read_stop(Fields& body, std::string_view name);

// Throws FieldError, of `param`, for what is no id of a token.
std::vector<TokenId> read_token_ids(JsonArray list, int64_t vocab_size, const std::string& param);

// Throws FieldError unless an answer of max_tokens has room behind a prompt of so many tokens, the field `param`; nullopt: of at least one.
void expect_room(int64_t prompt_tokens, std::optional<int64_t> max_tokens, int64_t context, const std::string& param);

}  // namespace tessera::api

#pragma once
// /tokenize, /detokenize and /tokenizer_info, as vLLM has them.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "api/chat_completions.h"

namespace tessera::api {

// The body of a POST to /tokenize.
struct TokenizeFields {
  std::optional<std::string> model;
  std::variant<std::string, ChatCompletionFields> prompt;  // a text, or a chat without `generation`
  bool add_special_tokens = true;                          // to a text
  bool return_token_strs = false;
};

struct DetokenizeFields {
  std::optional<std::string> model;
  std::vector<TokenId> tokens;
  bool skip_special_tokens = false;
};

// Both throw FieldError, naming the field.
TokenizeFields read_tokenize(JsonObject body);
DetokenizeFields read_detokenize(JsonObject body, int64_t vocab_size);

// {"count", "max_model_len", "tokens", "token_strs"}; the last are the vocabulary's, null unless they were asked for.
Json tokenized(std::span<const TokenId> ids, int64_t max_model_len, const Tokenizer& tokenizer, bool return_token_strs);

// {"prompt"}: with the texts of special tokens, unless they are skipped.
Json detokenized(std::span<const TokenId> ids, const Tokenizer& tokenizer, bool skip_special_tokens = false);

// {"tokenizer_class", "bos_token", "eos_token", "pad_token", "unk_token", "chat_template"}, null where the checkpoint has none.
Json tokenizer_info(std::span<const std::pair<std::string, std::string>> special_tokens, const std::optional<std::string>& chat_template,
                    const std::optional<std::string>& tokenizer_class);

}  // namespace tessera::api

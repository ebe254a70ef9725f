#pragma once
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "api/answer.h"
#include "api/generation_fields.h"

namespace tessera::api {

// The body of a POST to /v1/completions.
struct CompletionFields {
  using Prompt = std::variant<std::string, std::vector<TokenId>>;
  std::vector<Prompt> prompts;  // at least one; choices are in their order, n of each
  bool echo = false;            // the text begins with the prompt
  GenerationFields generation;
};

// Throws FieldError, naming the field.
CompletionFields read_completion(JsonObject body, int64_t vocab_size);

// The object text_completion.
Json completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage);

}  // namespace tessera::api

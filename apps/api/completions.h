#pragma once
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "api/answer_writer.h"
#include "api/generation_fields.h"

namespace tessera::api {

// The body of a POST to /v1/completions.
struct CompletionFields {
  using Prompt = std::variant<std::string, std::vector<TokenId>>;
  std::vector<Prompt> prompts;     // at least one; choices are in their order, n of each
  bool echo = false;               // the text begins with the prompt
  bool add_special_tokens = true;  // to prompts that are texts
  GenerationFields generation;
};

// Throws FieldError, naming the field. Fields that it does not know are left alone.
CompletionFields read_completion(JsonObject body, int64_t vocab_size);

// Chunks of text_completion, or the object. Where the prompt is echoed, a choice's first delta begins with its text and its tokens.
std::unique_ptr<AnswerWriter> completion_writer(AnswerHeader header, const GenerationFields& fields);

Json completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage);

}  // namespace tessera::api

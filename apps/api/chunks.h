#pragma once
#include <string>
#include <string_view>

#include "api/answer_writer.h"
#include "api/generation_fields.h"

namespace tessera::api {

// The events of a stream of /v1/chat/completions or /v1/completions: what stands around a part of a choice.
class Chunks {
 public:
  // `object`: chat.completion.chunk or text_completion.
  Chunks(const AnswerHeader& header, std::string_view object, const GenerationFields& fields);

  // `more`: an object's fields, beside "choices".
  std::string event(const Json& choice, const Usage& usage, const Json& more = nullptr) const;
  // The usage, if it was asked for, and [DONE].
  std::string last_events(const Usage& usage) const;

 private:
  std::string begin_;  // to within "choices"
  bool include_usage_, continuous_usage_;
};

}  // namespace tessera::api

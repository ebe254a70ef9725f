#pragma once
#include <span>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace tessera {

// The text of an answer as its ids come, up to a stop string. Special tokens are not part of it, but a stop string is found in them.
class AnswerText {
 public:
  // The tokenizer must outlive this. Throws std::invalid_argument for an empty stop string.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops);

  // The text goes on from these: a stop string may begin in them.
  void begin_behind(std::span<const TokenId> ids);
  // The text that can be shown now.
  std::string push(TokenId id);
  // What was held back. Nothing comes after it.
  std::string flush();
  bool stopped() const { return stops_.found(); }

 private:
  const Tokenizer& tokenizer_;
  Detokenizer detokenizer_;
  StopStrings stops_;
};

}  // namespace tessera

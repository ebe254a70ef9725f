#pragma once
#include <span>
#include <string>
#include <vector>

#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace tessera {

struct AnswerTextOptions {
  bool skip_special = true;         // special tokens are not part of the text
  std::vector<TokenId> shown = {};  // but for these
  bool include_stop = false;        // the text ends with the stop string that ended it
};

// The text of an answer as its ids come, up to a stop string. A stop string is found in special tokens that are not part of it as well.
class AnswerText {
 public:
  // The tokenizer must outlive this. Throws std::invalid_argument for an empty stop string.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops, AnswerTextOptions options = {});

  // The text goes on from these: a stop string may begin in them.
  void begin_behind(std::span<const TokenId> ids);
  // The text that can be shown now.
  std::string push(TokenId id);
  // What was held back. Nothing comes after it.
  std::string flush();
  bool stopped() const { return stops_.found(); }
  std::string_view stop_string() const { return stops_.string(); }  // that was found, "" before

 private:
  bool is_hidden(TokenId id) const;
  std::string with_stop(std::string text);

  const Tokenizer& tokenizer_;
  AnswerTextOptions options_;
  Detokenizer detokenizer_;
  StopStrings stops_;
};

}  // namespace tessera

#include "text/answer_text.h"

#include <algorithm>
#include <utility>

namespace tessera {

AnswerText::AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops)
    : tokenizer_(tokenizer), detokenizer_(tokenizer, {.skip_special = true}), stops_(std::move(stops)) {}

void AnswerText::begin_behind(std::span<const TokenId> ids) {
  Detokenizer detokenizer(tokenizer_, {});
  std::string text;
  for (const TokenId id : ids.last(std::min(ids.size(), stops_.longest()))) text += detokenizer.push(id);
  stops_.begin_behind(text + detokenizer.flush());
}

std::string AnswerText::push(TokenId id) {
  std::string text = stops_.push(detokenizer_.push(id));
  if (tokenizer_.is_special(id)) text += stops_.pass(tokenizer_.id_to_token(id));
  return text;
}

std::string AnswerText::flush() {
  std::string text = stops_.push(detokenizer_.flush());
  return text + stops_.flush();
}

}  // namespace tessera

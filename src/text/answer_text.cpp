#include "text/answer_text.h"

#include <algorithm>
#include <utility>

namespace tessera {

AnswerText::AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops, AnswerTextOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)), detokenizer_(tokenizer, {}), stops_(std::move(stops)) {}

void AnswerText::begin_behind(std::span<const TokenId> ids) {
  Detokenizer detokenizer(tokenizer_, {});
  std::string text;
  for (const TokenId id : ids.last(std::min(ids.size(), stops_.longest()))) text += detokenizer.push(id);
  stops_.begin_behind(text + detokenizer.flush());
}

bool AnswerText::is_hidden(TokenId id) const {
  return options_.skip_special && tokenizer_.is_special(id) &&
         std::find(options_.shown.begin(), options_.shown.end(), id) == options_.shown.end();
}

std::string AnswerText::push(TokenId id) {
  if (stopped()) return "";
  return with_stop(is_hidden(id) ? stops_.pass(tokenizer_.id_to_token(id)) : stops_.push(detokenizer_.push(id)));
}

std::string AnswerText::flush() {
  if (stopped()) return "";
  std::string text = with_stop(stops_.push(detokenizer_.flush()));
  return text + stops_.flush();
}

std::string AnswerText::with_stop(std::string text) {
  if (stopped() && options_.include_stop) text += stop_string();
  return text;
}

}  // namespace tessera

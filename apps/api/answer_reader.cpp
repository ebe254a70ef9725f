#include "api/answer_reader.h"

#include <algorithm>
#include <utility>

namespace tessera::api {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n";

// The longest end of `text` that begins `mark`, and is not all of it.
size_t beginning_of(std::string_view mark, std::string_view text) {
  for (size_t length = std::min(mark.size() - 1, text.size()); length > 0; --length)
    if (text.substr(text.size() - length) == mark.substr(0, length)) return length;
  return 0;
}

}  // namespace

AnswerReader::AnswerReader(const Tokenizer& tokenizer, AnswerReaderOptions options)
    : options_(std::move(options)),
      text_(tokenizer, options_.stops,
            {.skip_special = options_.skip_special_tokens,
             .shown = options_.format ? options_.format->marks : std::vector<TokenId>(),
             .include_stop = options_.include_stop}) {
  if (!options_.behind.empty()) text_.begin_behind(options_.behind);
  const bool thinks = options_.format && !options_.format->think_end.empty();
  in_ = !thinks || options_.thinking == Thinking::done ? In::text : options_.thinking == Thinking::begun ? In::thinking : In::beginning;
  breaks_ = in_ == In::thinking;
}

AnswerDelta AnswerReader::push(TokenId id, bool end) {
  AnswerDelta delta{.choice = options_.choice};
  if (!end || options_.include_stop) read(text_.push(id), delta);
  return delta;
}

AnswerDelta AnswerReader::finish(std::string_view reason) {
  AnswerDelta delta{.choice = options_.choice};
  ended_ = true;
  read(text_.flush(), delta);
  delta.finish_reason = reason;
  delta.stop_string = text_.stop_string();
  return delta;
}

void AnswerReader::read(std::string_view text, AnswerDelta& delta) {
  pending_ += text;
  while (!pending_.empty() && step(delta)) {
  }
}

// False: more text is needed.
bool AnswerReader::step(AnswerDelta& delta) {
  if (breaks_) drop_line_breaks();
  if (pending_.empty()) return false;
  switch (in_) {
    case In::beginning:
      return begin(delta);
    case In::thinking:
      return think(delta);
    case In::text:
      break;
  }
  delta.text += std::exchange(pending_, "");
  return false;
}

// Thinking stands first, if it does.
bool AnswerReader::begin(AnswerDelta&) {
  const std::string& mark = options_.format->think_begin;
  const size_t first = std::min(pending_.find_first_not_of(kWhiteSpace), pending_.size());
  const std::string_view behind = std::string_view(pending_).substr(first);
  if (behind.starts_with(mark)) {
    pending_.erase(0, first + mark.size());
    in_ = In::thinking;
    breaks_ = true;
  } else if (ended_ || !std::string_view(mark).starts_with(behind)) {
    in_ = In::text;
  } else {
    return false;
  }
  return true;
}

bool AnswerReader::think(AnswerDelta& delta) {
  const std::string& mark = options_.format->think_end;
  const size_t end = pending_.find(mark);
  const bool ends = end != std::string::npos;
  std::string_view thought =
      std::string_view(pending_).substr(0, ends ? end : pending_.size() - (ended_ ? 0 : beginning_of(mark, pending_)));
  thought = thought.substr(0, thought.find_last_not_of('\n') + 1);  // line breaks before the mark are left out
  delta.reasoning += thought;
  pending_.erase(0, ends ? end + mark.size() : ended_ ? pending_.size() : thought.size());
  if (ends) {
    in_ = In::text;
    breaks_ = true;
  }
  return ends;
}

void AnswerReader::drop_line_breaks() {
  const size_t first = pending_.find_first_not_of('\n');
  pending_.erase(0, std::min(first, pending_.size()));
  breaks_ = pending_.empty();
}

}  // namespace tessera::api

#include "api/answer_format.h"

#include <algorithm>
#include <array>

namespace tessera::api {
namespace {

struct Pair {
  std::string_view begin, end;
};
constexpr std::array kThinking{Pair{"<think>", "</think>"}, Pair{"[THINK]", "[/THINK]"}};

void find_thinking(const ChatTemplate& chat, const Tokenizer& tokenizer, AnswerFormat& format) {
  for (const Pair& pair : kThinking) {
    if (!chat.holds(pair.end) && !(tokenizer.token_to_id(pair.begin) && tokenizer.token_to_id(pair.end))) continue;
    format.think_begin = pair.begin;
    format.think_end = pair.end;
    return;
  }
}

}  // namespace

AnswerFormat find_answer_format(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  AnswerFormat format;
  find_thinking(chat, tokenizer, format);
  const auto add = [&](std::vector<TokenId>& marks, std::string_view mark) {
    if (const auto id = tokenizer.token_to_id(mark); id && tokenizer.is_special(*id)) marks.push_back(*id);
  };
  for (const std::string& mark : {format.think_begin, format.think_end}) add(format.think_marks, mark);
  for (const std::string_view mark : {kCallBegin, kCallEnd, kCallsMark, kArgumentsMark, kCallIdMark, kPythonTag})
    add(format.call_marks, mark);
  return format;
}

Thinking thinking_behind(std::span<const TokenId> prompt, const AnswerFormat& format, const Tokenizer& tokenizer) {
  if (format.think_end.empty()) return Thinking::done;
  constexpr size_t kTail = 16;  // tokens: a mark and line breaks
  const std::string tail = tokenizer.decode(prompt.last(std::min(prompt.size(), kTail)), {});
  const std::string_view text = std::string_view(tail).substr(0, tail.find_last_not_of(" \n") + 1);
  return text.ends_with(format.think_begin) ? Thinking::begun : text.ends_with(format.think_end) ? Thinking::done : Thinking::may_begin;
}

}  // namespace tessera::api

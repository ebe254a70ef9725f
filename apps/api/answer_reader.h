#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"
#include "api/answer_format.h"
#include "api/call_object.h"
#include "text/answer_text.h"

namespace tessera::api {

struct AnswerReaderOptions {
  const AnswerFormat* format = nullptr;     // must outlive the reader; null: all is text, as a completion's
  std::vector<std::string> tools = {};      // names; none: calls are text
  Thinking thinking = Thinking::may_begin;  // behind the prompt
  size_t choice = 0;                        // of the deltas
  std::string call_seed = "";               // the request's id: with the choice it makes the ids of calls
  std::vector<std::string> stops = {};      // stop strings
  std::vector<TokenId> behind = {};         // the prompt, if a stop string may begin in it
  bool include_stop = false, skip_special_tokens = true;
};

// One choice's tokens to its text, reasoning and tool calls, as they come. A call that is not well formed stays text; one that has begun to
// be told, its name, keeps what came of its arguments. Line breaks around thinking and calls are left out.
class AnswerReader {
 public:
  // The tokenizer must outlive this. Throws std::invalid_argument for an empty stop string.
  AnswerReader(const Tokenizer& tokenizer, AnswerReaderOptions options);

  // `end`: the token ends the answer, and is not part of it unless options.include_stop says so.
  AnswerDelta push(TokenId id, bool end);
  // A stop string was found: nothing more comes.
  bool stopped() const { return text_.stopped(); }
  // What was held back. `reason` is stop or length; where tools were called to the end, stop becomes tool_calls.
  AnswerDelta finish(std::string_view reason);

 private:
  enum class In { beginning, thinking, text, marked, name, call, behind };

  void read(std::string_view text, AnswerDelta& delta);
  bool step(AnswerDelta& delta);
  bool begin();
  bool think(AnswerDelta& delta);
  bool say(AnswerDelta& delta);
  bool begin_object(AnswerDelta& delta);
  bool read_mark(AnswerDelta& delta);
  bool read_name(AnswerDelta& delta);
  bool read_call(AnswerDelta& delta);
  bool read_behind();
  void tell(AnswerDelta& delta);
  bool fail(AnswerDelta& delta);
  void hold(size_t bytes);
  void drop_line_breaks();

  AnswerReaderOptions options_;
  AnswerText text_;
  In in_ = In::beginning;
  std::string pending_;  // text that is not read yet
  bool ended_ = false;   // nothing comes behind it
  bool breaks_ = false;  // line breaks that come next are left out
  bool object_ = false;  // an object that comes next may be a call without a mark
  bool list_ = false;    // the call is one of a list
  CallObject call_;
  std::string held_;  // of a call that is not told yet
  bool told_ = false;
  size_t calls_ = 0, whole_calls_ = 0;
};

}  // namespace tessera::api

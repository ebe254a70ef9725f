#include "api/answer_reader.h"

#include <algorithm>
#include <utility>

#include "core/digest.h"
#include "core/error.h"

namespace tessera::api {
namespace {

using Calls = AnswerFormat::Calls;

constexpr std::string_view kWhiteSpace = " \t\r\n";
constexpr size_t kMostSpace = 64, kMostLineBreaks = 8;  // bytes that are held back before what may be a mark
constexpr size_t kLongestName = 256;                    // bytes; of a call whose name stands without quotes

// The longest end of `text` that begins `mark`, and is not all of it.
size_t beginning_of(std::string_view mark, std::string_view text) {
  for (size_t length = std::min(mark.size() - 1, text.size()); length > 0; --length)
    if (text.substr(text.size() - length) == mark.substr(0, length)) return length;
  return 0;
}

std::string_view call_mark(const AnswerFormat& format) { return format.calls == Calls::tagged ? kCallBegin : kCallsMark; }

size_t without_line_breaks(std::string_view text) {
  const size_t size = text.find_last_not_of('\n') + 1;
  return std::max(size, text.size() - std::min(text.size(), kMostLineBreaks));
}

// What comes behind the white space that `text` begins with: `mark`, or what may become it. `last`: nothing more comes.
enum class Found { it, may_become, no };
Found find_behind_space(std::string_view text, std::string_view mark, bool last, size_t& first) {
  first = std::min(text.find_first_not_of(kWhiteSpace), text.size());
  if (first > kMostSpace) return Found::no;
  if (text.substr(first).starts_with(mark)) return Found::it;
  return !last && mark.starts_with(text.substr(first)) ? Found::may_become : Found::no;
}

std::vector<TokenId> shown(const AnswerReaderOptions& options) {
  if (!options.format) return {};
  std::vector<TokenId> ids;
  for (const AnswerFormat::Mark& mark : options.format->think_marks) ids.push_back(mark.id);
  if (options.tools.empty()) return ids;
  for (const AnswerFormat::Mark& mark : options.format->call_marks) ids.push_back(mark.id);
  return ids;
}

}  // namespace

AnswerReader::AnswerReader(const Tokenizer& tokenizer, AnswerReaderOptions options)
    : options_(std::move(options)),
      text_(tokenizer, options_.stops,
            {.skip_special = options_.skip_special_tokens, .shown = shown(options_), .include_stop = options_.include_stop}) {
  if (!options_.behind.empty()) text_.begin_behind(options_.behind);
  if (!options_.format) options_.tools.clear();
  const bool thinks = options_.format && !options_.format->think_end.empty();
  in_ = !thinks || options_.thinking == Thinking::done ? In::text : options_.thinking == Thinking::begun ? In::thinking : In::beginning;
  breaks_ = in_ == In::thinking;
  object_ = options_.format && options_.format->calls == Calls::object;
}

AnswerDelta AnswerReader::push(TokenId id, bool end) {
  AnswerDelta delta;
  delta.choice = options_.choice;
  if (!end || options_.include_stop) read(text_.push(id), delta);
  return delta;
}

AnswerDelta AnswerReader::finish(std::string_view reason) {
  AnswerDelta delta;
  delta.choice = options_.choice;
  ended_ = true;
  read(text_.flush(), delta);
  delta.text += std::exchange(held_, "");
  delta.finish_reason = reason == "stop" && whole_calls_ > 0 ? "tool_calls" : reason;
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
      return begin();
    case In::thinking:
      return think(delta);
    case In::text:
      return say(delta);
    case In::marked:
      return read_mark(delta);
    case In::name:
      return read_name(delta);
    case In::call:
      return read_call(delta);
    case In::behind:
      return read_behind();
  }
  return false;
}

// Thinking stands first, if it does.
bool AnswerReader::begin() {
  size_t first = 0;
  const Found found = find_behind_space(pending_, options_.format->think_begin, ended_, first);
  if (found == Found::it) pending_.erase(0, first + options_.format->think_begin.size());
  in_ = found == Found::it ? In::thinking : found == Found::no ? In::text : In::beginning;
  breaks_ = found == Found::it;
  return found != Found::may_become;
}

bool AnswerReader::think(AnswerDelta& delta) {
  const std::string& mark = options_.format->think_end;
  const size_t end = pending_.find(mark);
  const bool ends = end != std::string::npos;
  const size_t known = ends ? end : pending_.size() - (ended_ ? 0 : beginning_of(mark, pending_));
  const std::string_view thought = std::string_view(pending_).substr(0, without_line_breaks(std::string_view(pending_).substr(0, known)));
  delta.reasoning += thought;
  pending_.erase(0, ends ? end + mark.size() : ended_ ? pending_.size() : thought.size());
  if (ends) {
    in_ = In::text;
    breaks_ = true;
  }
  return ends;
}

bool AnswerReader::say(AnswerDelta& delta) {
  if (options_.tools.empty()) {
    delta.text += std::exchange(pending_, "");
    return false;
  }
  if (options_.format->calls == Calls::object) return begin_object(delta);
  const std::string_view mark = call_mark(*options_.format), pending = pending_;
  const size_t place = pending.find(mark);
  const bool is_there = place != pending.npos;
  const size_t before = is_there ? place : pending.size() - (ended_ ? 0 : beginning_of(mark, pending));
  const size_t said = ended_ && !is_there ? before : without_line_breaks(pending.substr(0, before));
  delta.text += pending.substr(0, said);
  pending_.erase(0, said);
  if (is_there) {
    hold(place - said + mark.size());
    list_ = false;
    in_ = In::marked;
  }
  return is_there;
}

// An answer may be a call from its first character on.
bool AnswerReader::begin_object(AnswerDelta& delta) {
  size_t first = 0;
  if (object_) {
    const Found tag = find_behind_space(pending_, kPythonTag, ended_, first);
    if (tag == Found::may_become) return false;
    if (tag == Found::it) hold(first + kPythonTag.size());
    if (tag == Found::it || pending_[std::min(first, pending_.size() - 1)] == '{') {
      in_ = In::marked;
      list_ = false;
      return true;
    }
  }
  object_ = false;
  delta.text += std::exchange(pending_, "");
  return false;
}

// Behind a mark, before a call: white space, the bracket of a list.
bool AnswerReader::read_mark(AnswerDelta& delta) {
  const Calls calls = options_.format->calls;
  const bool has_names = calls == Calls::list || calls == Calls::named;
  const char c = pending_[0];
  if (kWhiteSpace.find(c) != kWhiteSpace.npos) {
    hold(1);
  } else if (c == '{') {
    call_ = CallObject();
    in_ = In::call;
  } else if (c == '[' && has_names && !list_) {
    list_ = true;
    hold(1);
  } else if (has_names && !list_) {
    in_ = In::name;
  } else {
    return fail(delta);
  }
  return true;
}

// A name without quotes, up to a mark or the arguments.
bool AnswerReader::read_name(AnswerDelta& delta) {
  const char c = pending_[0];
  if (c == '\n' || held_.size() > kLongestName) return fail(delta);
  if (c != '{') {
    hold(1);
    return true;
  }
  std::string name = held_.substr(held_.rfind(kCallsMark) + kCallsMark.size());
  name = name.substr(0, name.find('['));
  name.erase(0, name.find_first_not_of(kWhiteSpace));
  name.erase(name.find_last_not_of(kWhiteSpace) + 1);
  if (name.empty()) return fail(delta);
  call_ = CallObject(std::move(name));
  in_ = In::call;
  return true;
}

bool AnswerReader::read_call(AnswerDelta& delta) {
  CallObject::Verdict verdict = CallObject::Verdict::more;
  size_t bytes = 0;
  while (bytes < pending_.size() && verdict == CallObject::Verdict::more) {
    verdict = call_.push(pending_[bytes]);
    bytes += verdict != CallObject::Verdict::malformed;
  }
  hold(bytes);
  if (call_.begun() && !told_) {
    const auto& tools = options_.tools;
    const bool known = std::find(tools.begin(), tools.end(), call_.name()) != tools.end();
    if (!known && options_.format->calls == Calls::object) return fail(delta);  // an object of another kind
    delta.calls.push_back({.index = calls_++, .id = "", .name = call_.name(), .arguments = ""});
    delta.calls.back().id =
        "call_" + digest(message(options_.call_seed, " ", options_.choice, " ", delta.calls.back().index)).substr(0, 24);
    told_ = true;
  }
  if (told_) tell(delta);
  if (verdict == CallObject::Verdict::malformed) return fail(delta);
  if (verdict == CallObject::Verdict::more) return false;
  ++whole_calls_;
  told_ = false;
  in_ = In::behind;
  return true;
}

void AnswerReader::tell(AnswerDelta& delta) {
  held_.clear();
  std::string arguments = call_.take_arguments();
  if (arguments.empty()) return;
  if (delta.calls.empty() || delta.calls.back().index + 1 != calls_)
    delta.calls.push_back({.index = calls_ - 1, .id = "", .name = "", .arguments = ""});
  delta.calls.back().arguments += arguments;
}

// Behind a call: the end of its tag or list, or the next.
bool AnswerReader::read_behind() {
  const Calls calls = options_.format->calls;
  pending_.erase(0, std::min(pending_.find_first_not_of(calls == Calls::object ? " \t\r\n;" : kWhiteSpace), pending_.size()));
  const std::string_view pending = pending_, end = calls == Calls::tagged ? kCallEnd : list_ ? "]" : "";
  const bool ends = !end.empty() && pending.starts_with(end), next = list_ && pending.starts_with(',');
  if (pending.empty() || (!ends && !ended_ && end.starts_with(pending))) return false;
  pending_.erase(0, next ? 1 : ends ? end.size() : 0);
  in_ = next ? In::marked : In::text;
  breaks_ = !next;
  return true;
}

// No call: what was held is text.
bool AnswerReader::fail(AnswerDelta& delta) {
  delta.text += std::exchange(held_, "");
  in_ = In::text;
  told_ = object_ = false;
  return true;
}

void AnswerReader::hold(size_t bytes) {
  held_.append(pending_, 0, bytes);
  pending_.erase(0, bytes);
}

void AnswerReader::drop_line_breaks() {
  pending_.erase(0, std::min(pending_.find_first_not_of('\n'), pending_.size()));
  breaks_ = pending_.empty();
}

}  // namespace tessera::api

#pragma once
// How a checkpoint's answers are written beyond their text: its thinking, and the calls of tools.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tessera::api {

inline constexpr std::string_view kCallBegin = "<tool_call>", kCallEnd = "</tool_call>", kCallsMark = "[TOOL_CALLS]",
                                  kArgumentsMark = "[ARGS]", kCallIdMark = "[CALL_ID]", kPythonTag = "<|python_tag|>";

struct AnswerFormat {
  enum class Calls {
    tagged,  // <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>
    object,  // the whole answer: {"name": "f", "parameters": {...}}
    list,    // [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]
    named,   // [TOOL_CALLS]f[ARGS]{...}, each call
  };
  Calls calls = Calls::tagged;
  bool tools_in_template = false;      // it shows tools, calls and results; else a text of ours does
  bool arguments_are_text = false;     // in a call that it shows: JSON's text, else a dict
  bool short_call_ids = false;         // it takes ids of nine letters and digits only
  bool has_system = true;              // it shows a system message
  bool has_developer = false;          // the role; else its messages are the system's
  std::string think_begin, think_end;  // around thinking; empty: it does none
  struct Mark {
    std::string text;
    TokenId id;
  };
  std::vector<Mark> call_marks, think_marks;  // of what stands around them: what is a special token
};

AnswerFormat find_answer_format(const ChatTemplate& chat, const Tokenizer& tokenizer);

// The special token that a mark is; nullopt: it is text.
std::optional<TokenId> mark_id(const AnswerFormat& format, std::string_view mark);

// Of all of them.
std::vector<TokenId> mark_ids(const AnswerFormat& format);

// Whether an answer behind a prompt thinks.
enum class Thinking { may_begin, begun, done };
Thinking thinking_behind(std::span<const TokenId> prompt, const AnswerFormat& format, const Tokenizer& tokenizer);

}  // namespace tessera::api

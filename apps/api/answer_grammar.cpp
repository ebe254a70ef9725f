#include "api/answer_grammar.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace tessera::api {
namespace {

using Calls = AnswerFormat::Calls;

constexpr std::string_view kAnyObject = R"({"type": "object", "additionalProperties": true})";

// The pieces of xgrammar's structural tags, as JSON.

std::string list(const std::vector<std::string>& pieces) {
  std::string all = "[";
  for (const std::string& piece : pieces) all += (all.size() > 1 ? ", " : "") + piece;
  return all + "]";
}

std::string text(std::string_view value) { return message(R"({"type": "const_string", "value": )", dumped(value), "}"); }
std::string token(TokenId id) { return message(R"({"type": "token", "token": )", id, "}"); }
std::string pattern(std::string_view regex) { return message(R"({"type": "regex", "pattern": )", dumped(regex), "}"); }
std::string schema(std::string_view json) { return message(R"({"type": "json_schema", "json_schema": )", json, "}"); }

std::string many(const char* type, const std::vector<std::string>& elements) {
  return elements.size() == 1 ? elements.front() : message(R"({"type": ")", type, R"(", "elements": )", list(elements), "}");
}
std::string sequence(const std::vector<std::string>& elements) { return many("sequence", elements); }
std::string either(const std::vector<std::string>& elements) { return many("or", elements); }

// A mark that stands alone.
std::string mark(const AnswerFormat& format, std::string_view value) {
  const auto id = mark_id(format, value);
  return id ? token(*id) : text(value);
}

// `begin` and `end`, each a quoted text or a token.
std::string tag(const std::string& begin, const std::string& content, const std::string& end) {
  return message(R"({"type": "tag", "begin": )", begin, R"(, "content": )", content, R"(, "end": )", end, "}");
}

const char* bool_text(bool value) { return value ? "true" : "false"; }

std::string separated(const std::vector<std::string>& tags, std::string_view separator, bool one) {
  return message(R"({"type": "tags_with_separator", "tags": )", list(tags), R"(, "separator": )", dumped(separator),
                 R"(, "at_least_one": true, "stop_after_first": )", bool_text(one), "}");
}

// Any text up to `value`, behind which one of the tags stands.
std::string triggered(const AnswerFormat& format, std::string_view value, const std::vector<std::string>& tags, bool one) {
  const auto id = mark_id(format, value);
  const std::string trigger = id ? message(R"("token_triggered_tags", "trigger_tokens": [)", *id, "]")
                                 : message(R"("triggered_tags", "triggers": [)", dumped(value), "]");
  return message(R"({"type": )", trigger, R"(, "tags": )", list(tags), R"(, "stop_after_first": )", bool_text(one), "}");
}

// A text that does not begin so, of ASCII that is no part of a regular expression's own but for its first character, a brace.
std::string other_text(std::string_view beginning) {
  std::string regex;
  for (size_t i = beginning.size(); i-- > 0;) {
    const std::string c = beginning[i] == '{' ? "\\{" : std::string(1, beginning[i]);
    regex = message("([^", c, R"(][\s\S]*)", i + 1 < beginning.size() ? message('|', c, regex) : "", ")?");
  }
  return pattern(regex);
}

// What holds calls.
class CallGrammar {
 public:
  CallGrammar(const AnswerFormat& format, const Tools& tools, const Enforceable& enforceable)
      : format_(format), one_(!tools.parallel || tools.choice == Tools::Choice::named || format.calls == Calls::object) {
    size_t bytes = 0;
    for (const ToolDefinition& tool : tools.definitions) {
      if (tools.choice == Tools::Choice::named && tool.name != tools.name) continue;
      bytes += tool.parameters.size();
      const bool held =
          !tool.parameters.empty() && (tool.strict || (enforceable ? enforceable(tool.parameters, bytes) : bytes <= kMostSchemaBytes));
      add(tool.name, schema(held ? tool.parameters : std::string(kAnyObject)));
    }
    expect(!tags_.empty(), "tool_choice", "names no function of tools");
  }

  // Nothing but calls.
  std::string calls() const {
    switch (format_.calls) {
      case Calls::tagged:
        return separated(tags_, "\n", one_);
      case Calls::object:
        return either(tags_);
      case Calls::list:
        return sequence({mark(format_, kCallsMark), text("["), separated(tags_, ", ", one_), text("]")});
      case Calls::named:
        return one_ ? either(tags_) : message(R"({"type": "plus", "content": )", either(tags_), "}");
    }
    fail("no such calls");
  }

  // Any text, in which a call may begin.
  std::string text_or_calls() const {
    switch (format_.calls) {
      case Calls::tagged:
        return triggered(format_, kCallBegin, tags_, one_);
      case Calls::object:
        return either({either(tags_), other_text(R"({"name": ")")});
      case Calls::list: {
        const auto id = mark_id(format_, kCallsMark);
        const std::string begin = id ? token(*id) : dumped(kCallsMark);
        return triggered(format_, kCallsMark, {tag(begin, sequence({text("["), separated(tags_, ", ", one_)}), dumped("]"))}, true);
      }
      case Calls::named:
        return triggered(format_, kCallsMark, tags_, one_);
    }
    fail("no such calls");
  }

 private:
  void add(const std::string& name, const std::string& arguments) {
    const std::string field = format_.calls == Calls::object ? "parameters" : "arguments";
    const std::string object = message("{\"name\": ", dumped(name), ", \"", field, "\": ");
    const auto begin = mark_id(format_, kCallBegin), end = mark_id(format_, kCallEnd), calls = mark_id(format_, kCallsMark);
    switch (format_.calls) {
      case Calls::tagged: {
        const std::string before = "\n" + object, behind = "}\n";
        tags_.push_back(begin && end ? tag(token(*begin), sequence({text(before), arguments, text(behind)}), token(*end))
                                     : tag(dumped(message(kCallBegin, before)), arguments, dumped(message(behind, kCallEnd))));
        return;
      }
      case Calls::object:
      case Calls::list:
        tags_.push_back(tag(dumped(object), arguments, dumped("}")));
        return;
      case Calls::named:
        tags_.push_back(
            tag(calls ? token(*calls) : dumped(kCallsMark), sequence({text(name), mark(format_, kArgumentsMark), arguments}), dumped("")));
        return;
    }
  }

  const AnswerFormat& format_;
  bool one_;
  std::vector<std::string> tags_;
};

std::string form_of(const GrammarSource& form) {
  switch (form.kind) {
    case GrammarSource::Kind::json:
      return schema(kAnyObject);
    case GrammarSource::Kind::json_schema:
      return schema(form.text);
    case GrammarSource::Kind::regex:
      return pattern(form.text);
    case GrammarSource::Kind::choice: {
      std::vector<std::string> texts;
      for (const auto& one : Json::parse(form.text)) texts.push_back(text(one.get<std::string>()));
      return either(texts);
    }
    case GrammarSource::Kind::grammar:
      return message(R"({"type": "grammar", "grammar": )", dumped(form.text), "}");
    case GrammarSource::Kind::structural_tag:
      break;
  }
  fail("no such form");
}

// What stands before the answer, and the line breaks behind it.
std::vector<std::string> thought(const AnswerFormat& format, Thinking thinking) {
  const std::string breaks = pattern(R"(\n{0,2})");
  const auto end = mark_id(format, format.think_end);
  const std::string thoughts = end ? sequence({message(R"({"type": "any_tokens", "exclude_tokens": [)", *end, "]}"), token(*end)})
                                   : tag(dumped(""), R"({"type": "any_text"})", dumped(format.think_end));
  if (thinking == Thinking::begun) return {thoughts, breaks};
  return {message(R"({"type": "optional", "content": )", sequence({mark(format, format.think_begin), thoughts, breaks}), "}")};
}

}  // namespace

std::optional<GrammarSource> answer_grammar(const AnswerFormat& format, Thinking thinking, const Tools& tools,
                                            const std::optional<GrammarSource>& form, const Enforceable& enforceable) {
  const bool calls = tools.choice != Tools::Choice::none && !tools.definitions.empty();
  const bool thinks = !format.think_end.empty() && thinking != Thinking::done;
  if (!calls && (!form || !thinks)) return form;
  std::vector<std::string> parts;
  if (thinks) parts = thought(format, thinking);
  if (!calls) {
    parts.push_back(form_of(*form));
  } else {
    const CallGrammar grammar(format, tools, enforceable);
    const bool must = tools.choice != Tools::Choice::automatic;
    parts.push_back(must ? grammar.calls() : form ? either({grammar.calls(), form_of(*form)}) : grammar.text_or_calls());
  }
  return GrammarSource{.kind = GrammarSource::Kind::structural_tag,
                       .text = message(R"({"type": "structural_tag", "format": )", sequence(parts), "}"),
                       .strict = !form || form->strict};
}

}  // namespace tessera::api

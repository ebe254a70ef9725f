#include "api/answer_grammar.h"

#include <gtest/gtest.h>

#include <map>

#include "grammar/grammar.h"
#include "grammar/schema_caps.h"

namespace tessera::api {
namespace {

using Choice = Tools::Choice;
using Calls = AnswerFormat::Calls;

// Every byte is a token, and so are the marks of formats, which are special.
constexpr TokenId kEnd = 256;
const std::map<std::string, TokenId> kMarks{{"[TOOL_CALLS]", 257}, {"[ARGS]", 258},      {"[THINK]", 259},
                                            {"[/THINK]", 260},     {"<tool_call>", 261}, {"</tool_call>", 262}};

std::vector<AnswerFormat::Mark> marks(const std::vector<std::string>& texts) {
  std::vector<AnswerFormat::Mark> all;
  for (const std::string& text : texts) all.push_back({text, kMarks.at(text)});
  return all;
}

// Whether an answer may be a text, and end there. `marked`: marks in it are special tokens.
bool takes(const GrammarSource& source, const std::string& text, bool marked) {
  static std::map<std::string, std::shared_ptr<const CompiledGrammar>> compiled;
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();
  for (TokenId id = kEnd + 1; id < 263; ++id) tokens.push_back(message('\xFF', id));  // as a GrammarVocabulary has a tokenizer's marks
  const GrammarVocabulary vocabulary(tokens, 263, {kEnd});
  auto& grammar = compiled[source.text];
  if (!grammar) grammar = compile(vocabulary, source);
  const auto held = constraint(grammar);
  const auto may = [&](TokenId id) {
    std::vector<int32_t> bits(9);
    return !held->allowed(bits) || ((bits[static_cast<size_t>(id) / 32] >> (id % 32)) & 1);
  };
  for (size_t at = 0; at < text.size();) {
    TokenId id = static_cast<unsigned char>(text[at]);
    size_t size = 1;
    for (const auto& [mark, mark_id] : kMarks)
      if (marked && text.compare(at, mark.size(), mark) == 0) {
        id = mark_id;
        size = mark.size();
      }
    if (!may(id)) return false;
    held->accept(id);
    at += size;
  }
  return may(kEnd);
}

Tools two_tools(Choice choice, bool parallel = true) {
  return {.definitions = {{.name = "f", .parameters = R"({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})"},
                          {.name = "g"}},
          .choice = choice,
          .name = choice == Choice::named ? "g" : "",
          .parallel = parallel};
}

struct Case {
  const char* name;
  AnswerFormat format;
  std::string f, g, bad, between;  // calls, one that f's schema does not take, and what stands between two
};

std::vector<Case> cases() {
  const std::string x = "{\"x\": 1}", any = "{\"k\": [true]}", wrong = "{\"x\": \"1\"}";
  const auto tagged = [](const std::string& name, const std::string& arguments) {
    return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + arguments + "}\n</tool_call>";
  };
  const auto object = [](const std::string& name, const std::string& arguments) {
    return "{\"name\": \"" + name + "\", \"parameters\": " + arguments + "}";
  };
  const auto named = [](const std::string& name, const std::string& arguments) { return "[TOOL_CALLS]" + name + "[ARGS]" + arguments; };
  const auto calls = marks({"[TOOL_CALLS]", "[ARGS]"});
  return {{"tagged", {}, tagged("f", x), tagged("g", any), tagged("f", wrong), "\n"},
          {"tagged by tokens",
           {.call_marks = marks({"<tool_call>", "</tool_call>"})},
           tagged("f", x),
           tagged("g", any),
           tagged("f", wrong),
           "\n"},
          {"object", {.calls = Calls::object}, object("f", x), object("g", any), object("f", wrong), ""},
          {"named", {.calls = Calls::named, .call_marks = calls}, named("f", x), named("g", any), named("f", wrong), ""},
          {"named by text", {.calls = Calls::named}, named("f", x), named("g", any), named("f", wrong), ""}};
}

GrammarSource grammar_of(const AnswerFormat& format, const Tools& tools, Thinking thinking = Thinking::done,
                         const std::optional<GrammarSource>& form = std::nullopt) {
  return answer_grammar(format, thinking, tools, form, [](const std::string& schema) { return !unenforced(schema); }).value();
}

TEST(answer_grammar, calls_may_begin_in_any_text_and_are_held_then) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const bool marked = !one.format.call_marks.empty();
    const GrammarSource source = grammar_of(one.format, two_tools(Choice::automatic));
    const auto expect = [&](const std::string& text, bool may) { EXPECT_EQ(takes(source, text, marked), may) << text; };
    expect("", true);
    expect("Just a text, {of} any kind.\n", true);
    expect("{\"names\": 1}", true);
    expect("{\"name\": 1}", true);
    expect(one.f, true);
    expect(one.g, true);
    expect(one.bad, false);
    expect(one.f.substr(0, one.f.size() - 1), false);
    if (one.format.calls == Calls::object) {
      expect("{\"name\": \"h\", \"parameters\": {}}", false);
      expect(one.f + "; " + one.g, false);
      expect("Text: " + one.bad, true);
    } else {
      expect("Let me look.\n" + one.f + one.between + one.g, true);
      expect("Let me look.\n" + one.bad, false);
    }
    const GrammarSource single = grammar_of(one.format, two_tools(Choice::automatic, false));
    EXPECT_TRUE(takes(single, one.f, marked));
    EXPECT_FALSE(takes(single, one.f + one.between + one.g, marked));
  }
}

}  // namespace
}  // namespace tessera::api

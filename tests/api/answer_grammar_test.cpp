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

// Whether an answer may be a text, and end there. `format`: whose marks in it are special tokens.
bool takes(const GrammarSource& source, const std::string& text, const AnswerFormat& format = {}) {
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
    for (const auto* known : {&format.call_marks, &format.think_marks})
      for (const AnswerFormat::Mark& mark : *known)
        if (text.compare(at, mark.text.size(), mark.text) == 0) {
          id = mark.id;
          size = mark.text.size();
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
  return answer_grammar(format, thinking, tools, form, [](const std::string& schema, size_t) { return !unenforced(schema); }).value();
}

TEST(answer_grammar, calls_may_begin_in_any_text_and_are_held_then) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const GrammarSource source = grammar_of(one.format, two_tools(Choice::automatic));
    const auto expect = [&](const std::string& text, bool may) { EXPECT_EQ(takes(source, text, one.format), may) << text; };
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
    EXPECT_TRUE(takes(single, one.f, one.format));
    EXPECT_FALSE(takes(single, one.f + one.between + one.g, one.format));
  }
}

TEST(answer_grammar, nothing_but_calls_where_one_must_be) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const bool single = one.format.calls == Calls::object;
    const GrammarSource required = grammar_of(one.format, two_tools(Choice::required));
    const GrammarSource named = grammar_of(one.format, two_tools(Choice::named));
    const auto expect = [&](const GrammarSource& source, const std::string& text, bool may) {
      EXPECT_EQ(takes(source, text, one.format), may) << text;
    };
    expect(required, one.f, true);
    expect(required, one.f + one.between + one.g, !single);
    expect(required, "", false);
    expect(required, "Text", false);
    expect(required, "\n" + one.f, false);
    expect(required, one.bad, false);
    expect(grammar_of(one.format, two_tools(Choice::required, false)), one.f + one.between + one.g, false);
    expect(named, one.g, true);
    expect(named, one.f, false);
    expect(named, "", false);
    expect(named, one.g + one.between + one.g, false);
  }
}

TEST(answer_grammar, calls_may_stand_in_a_list) {
  const std::string f = "{\"name\": \"f\", \"arguments\": {\"x\": 1}}", g = "{\"name\": \"g\", \"arguments\": {}}";
  for (const bool marked : {false, true}) {
    AnswerFormat format{.calls = Calls::list};
    if (marked) format.call_marks = marks({"[TOOL_CALLS]"});
    const auto expect = [&](const Tools& tools, const std::string& text, bool may) {
      EXPECT_EQ(takes(grammar_of(format, tools), text, format), may) << text;
    };
    const std::string both = "[TOOL_CALLS][" + f + ", " + g + "]";
    for (const auto choice : {Choice::automatic, Choice::required}) {
      expect(two_tools(choice), "[TOOL_CALLS][" + f + "]", true);
      expect(two_tools(choice), both, true);
      expect(two_tools(choice), "[TOOL_CALLS][" + f, false);
      expect(two_tools(choice), "[TOOL_CALLS][]", false);
      expect(two_tools(choice, false), both, false);
      expect(two_tools(choice), "Text", choice == Choice::automatic);
      expect(two_tools(choice), "Text " + both, choice == Choice::automatic);
    }
    expect(two_tools(Choice::named), "[TOOL_CALLS][" + g + "]", true);
    expect(two_tools(Choice::named), "[TOOL_CALLS][" + f + "]", false);
  }
}

TEST(answer_grammar, what_is_held_is_held_behind_the_thinking) {
  const GrammarSource form{.kind = GrammarSource::Kind::regex, .text = "yes|no"};
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  for (const bool marked : {false, true}) {
    AnswerFormat format{.think_begin = "[THINK]", .think_end = "[/THINK]"};
    if (marked) format.think_marks = marks({"[THINK]", "[/THINK]"});
    const auto expect = [&](Thinking thinking, const std::string& text, bool may) {
      EXPECT_EQ(takes(grammar_of(format, {}, thinking, form), text, format), may) << text;
      std::string with_call = text;
      if (const size_t yes = text.rfind("yes"); yes != text.npos) with_call.replace(yes, 3, call);
      EXPECT_EQ(takes(grammar_of(format, two_tools(Choice::required), thinking), with_call, format), may) << with_call;
    };
    expect(Thinking::begun, "It is yes\n[/THINK]\n\nyes", true);
    expect(Thinking::begun, "[/THINK]yes", true);
    expect(Thinking::begun, "yes", false);
    expect(Thinking::begun, "[/THINK]so, yes", false);
    expect(Thinking::begun, "[/THINK]\n\n\nyes", false);
    expect(Thinking::may_begin, "yes", true);
    expect(Thinking::may_begin, "[THINK]Well.[/THINK]\n\nyes", true);
    expect(Thinking::may_begin, "[THINK]Well. yes", false);
    expect(Thinking::may_begin, "Well. yes", false);
    EXPECT_EQ(answer_grammar(format, Thinking::done, {}, form, {}), form);
    EXPECT_FALSE(answer_grammar(format, Thinking::begun, {}, std::nullopt, {}));
  }
}

TEST(answer_grammar, every_form_can_stand_behind_thinking) {
  using Kind = GrammarSource::Kind;
  const AnswerFormat format{.think_begin = "<think>", .think_end = "</think>"};
  const auto expect = [&](Kind kind, const std::string& text, const std::string& good, const std::string& bad) {
    const GrammarSource source = grammar_of(format, {}, Thinking::begun, GrammarSource{.kind = kind, .text = text});
    EXPECT_TRUE(takes(source, "x</think>" + good)) << good;
    EXPECT_FALSE(takes(source, "x</think>" + bad)) << bad;
  };
  expect(Kind::json, "", "{\"a\": {\"b\": [1]}}", "[1]");
  expect(Kind::json_schema, R"({"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]})", "{\"a\": {\"b\": 1}}",
         "{\"a\": 1}");
  expect(Kind::regex, "[0-9]{2}\"?", "12\"", "1");
  expect(Kind::choice, R"(["one", "\"two\"\n"])", "\"two\"\n", "two");
  expect(Kind::grammar, "root ::= \"a\" [b-d]", "ad", "ae");
}

TEST(answer_grammar, an_answer_has_its_form_or_is_a_call) {
  const GrammarSource form{.kind = GrammarSource::Kind::regex, .text = "yes|no"};
  const GrammarSource source = grammar_of({}, two_tools(Choice::automatic), Thinking::done, form);
  EXPECT_TRUE(takes(source, "yes"));
  EXPECT_TRUE(takes(source, "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"));
  EXPECT_FALSE(takes(source, "maybe"));
}

TEST(answer_grammar, a_tool_whose_schema_cannot_be_held_takes_any_object_unless_it_is_strict) {
  const auto of = [](const std::string& schema, bool strict) {
    const Tools tools{.definitions = {{.name = "f", .parameters = schema, .strict = strict}}, .choice = Choice::required};
    return grammar_of({}, tools);
  };
  const std::string not_held = R"({"type": "object", "properties": {"x": {"type": "integer"}}, "not": {"required": ["x"]}})";
  EXPECT_TRUE(takes(of(not_held, false), "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"y\": \"z\"}}\n</tool_call>"));
  EXPECT_THROW(takes(of(not_held, true), ""), std::invalid_argument);
  std::string large = R"({"type": "object", "description": ")" + std::string(size_t{300} << 10, 'x') + "\"}";
  EXPECT_LT(of(large, false).text.size(), size_t{1} << 10);
}

// 50 tools with schemas of 20 properties, lists of objects among them; each tenth has a keyword that is not enforced, each other tenth more
// values than a schema may have.
TEST(answer_grammar, a_coding_agent_s_list_of_tools_is_held) {
  const auto number = [](const char* before, int i) { return message(before, i); };
  Tools tools{.choice = Choice::required};
  for (int i = 0; i < 50; ++i) {
    std::string properties =
        R"("edits": {"type": "array", "items": {"type": "object", "properties": {"path": {"type": "string"}, "lines": )"
        R"({"type": "array", "items": {"type": "integer"}}}, "required": ["path"], "additionalProperties": false}})";
    for (int j = 0; j < 19; ++j)
      properties += message(", \"", number("p", j), "\": {\"description\": \"", std::string(60, 'd'), "\", \"type\": \"",
                            j % 2 == 0 ? "boolean" : "integer", "\"}");
    std::string values = "\"v0\"";
    for (int value = 1; i % 10 == 5 && value < 1200; ++value) values += number(", \"v", value) + '"';
    tools.definitions.push_back(
        {.name = number("tool_", i),
         .description = "",
         .parameters = message(R"({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", )",
                               i % 10 == 3 ? R"("not": {"required": ["p0"]}, )" : "", R"("properties": {)", properties,
                               R"(, "mode": {"enum": [)", values, R"(]}}, "required": ["edits"], "additionalProperties": false})")});
  }
  std::vector<std::string> refused;
  const auto grammar = answer_grammar({}, Thinking::may_begin, tools, std::nullopt, [&](const std::string& schema, size_t) {
    const auto why = unenforced(schema);
    if (why) refused.push_back(*why);
    return !why;
  });
  ASSERT_TRUE(grammar);
  EXPECT_EQ(refused.size(), 10u);
  const auto call = [&](int tool, const std::string& arguments) {
    return message("<tool_call>\n{\"name\": \"", number("tool_", tool), "\", \"arguments\": ", arguments, "}\n</tool_call>");
  };
  const std::string good = R"({"edits": [{"path": "a", "lines": [1, 2]}], "p0": true})", other = R"({"edits": [{"path": 5}]})";
  for (const int tool : {0, 24, 49}) {
    EXPECT_TRUE(takes(*grammar, call(tool, good)));
    EXPECT_FALSE(takes(*grammar, call(tool, other)));
  }
  for (const int tool : {3, 45}) EXPECT_TRUE(takes(*grammar, call(tool, other)));
  EXPECT_FALSE(takes(*grammar, call(50, good)));
}

TEST(answer_grammar, what_is_beyond_the_bytes_of_all_schemas_takes_any_object) {
  const std::string schema =
      R"({"type": "object", "properties": {"x": {"type": "integer"}}, "description": ")" + std::string(60'000, 'x') + "\"}";
  Tools tools{.choice = Choice::required};
  for (const char* name : {"a", "b", "c", "d", "e"}) tools.definitions.push_back({.name = name, .description = "", .parameters = schema});
  std::vector<size_t> told;
  const auto asked = answer_grammar({}, Thinking::done, tools, std::nullopt, [&](const std::string&, size_t bytes) {
    told.push_back(bytes);
    return bytes <= kMostSchemaBytes;
  });
  const size_t one = schema.size();
  EXPECT_EQ(told, (std::vector{one, 2 * one, 3 * one, 4 * one, 5 * one}));
  const auto by_itself = answer_grammar({}, Thinking::done, tools, std::nullopt, {});
  for (const auto& grammar : {asked, by_itself}) {
    EXPECT_FALSE(takes(grammar.value(), "<tool_call>\n{\"name\": \"d\", \"arguments\": {\"x\": \"z\"}}\n</tool_call>"));
    EXPECT_TRUE(takes(grammar.value(), "<tool_call>\n{\"name\": \"e\", \"arguments\": {\"x\": \"z\"}}\n</tool_call>"));
  }
}

TEST(answer_grammar, a_function_that_is_not_there_cannot_be_called) {
  Tools tools = two_tools(Choice::named);
  tools.name = "h";
  EXPECT_THROW(grammar_of({}, tools), FieldError);
  EXPECT_FALSE(answer_grammar({}, Thinking::done, two_tools(Choice::none), std::nullopt, {}));
  EXPECT_FALSE(answer_grammar({}, Thinking::done, {.choice = Choice::required}, std::nullopt, {}));
}

TEST(answer_grammar, quotes_in_names_are_escaped) {
  const Tools tools{.definitions = {{.name = "a\"b\\"}}, .choice = Choice::required};
  EXPECT_TRUE(takes(grammar_of({}, tools), "<tool_call>\n{\"name\": \"a\\\"b\\\\\", \"arguments\": {}}\n</tool_call>"));
}

}  // namespace
}  // namespace tessera::api

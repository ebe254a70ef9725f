#include "api/answer_reader.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "text/small_tokenizer.h"

namespace tessera::api {
namespace {

constexpr std::array kSpecial{"<eos>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"};

// Every part of a text is a token, and so are some special ones.
class Parts {
 public:
  explicit Parts(const std::string& text) {
    tessera::Json json = small_tokenizer();
    json["decoder"] = {{"type", "Fuse"}};
    json["model"]["merges"] = tessera::Json::array();
    tessera::Json& vocab = json["model"]["vocab"] = tessera::Json::object();
    for (const char* special : kSpecial) {
      json["added_tokens"].push_back(added_token(next_, special, true));
      vocab[special] = ids_[special] = next_++;
    }
    for (size_t begin = 0; begin < text.size(); ++begin)
      for (size_t size = 1; begin + size <= text.size(); ++size)
        if (ids_.try_emplace(text.substr(begin, size), next_).second) vocab[text.substr(begin, size)] = next_++;
    tokenizer_ = std::make_unique<Tokenizer>(parse(json));
  }

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  TokenId id(const std::string& part) const { return ids_.at(part); }
  std::vector<AnswerFormat::Mark> marks(const std::vector<std::string>& texts) const {
    std::vector<AnswerFormat::Mark> marks;
    for (const std::string& text : texts) marks.push_back({text, id(text)});
    return marks;
  }

 private:
  TokenId next_ = 0;
  std::map<std::string, TokenId> ids_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

// What is read of a text in these parts.
Choice read(const Parts& parts, const AnswerReaderOptions& options, const std::vector<std::string>& pieces,
            std::string_view reason = "stop") {
  AnswerReader reader(parts.tokenizer(), options);
  Choice choice;
  for (const std::string& piece : pieces) append(choice, reader.push(parts.id(piece), false));
  append(choice, reader.finish(reason));
  return choice;
}

std::string told(const Choice& choice) {
  std::string text =
      "text: " + choice.text + "\nreasoning: " + choice.reasoning + "\nreason: " + choice.finish_reason + " " + choice.stop_string;
  for (const ToolCall& call : choice.tool_calls) text += "\ncall " + call.id + ": " + call.name + " " + call.arguments;
  return text;
}

// The places of a text between which a special token stands whole.
std::vector<std::string> cut(const std::string& text, const std::vector<bool>& borders) {
  std::vector<std::string> pieces{""};
  for (size_t at = 0; at < text.size();) {
    size_t size = 1;
    for (const std::string special : kSpecial)
      if (text.compare(at, special.size(), special) == 0) size = special.size();
    if (!pieces.back().empty() && (size > 1 || borders[at])) pieces.emplace_back();
    pieces.back() += text.substr(at, size);
    at += size;
    if (size > 1) pieces.emplace_back();
  }
  if (pieces.back().empty()) pieces.pop_back();
  return pieces;
}

// The same for a text in one token, in tokens of one character, in two at each place, and in random ones.
Choice read_in_all_ways(const std::string& text, const AnswerReaderOptions& options, std::string_view reason = "stop") {
  const Parts parts(text);
  const size_t size = text.size() + 1;
  const Choice whole = read(parts, options, cut(text, std::vector<bool>(size)), reason);
  const auto expect_same = [&](const std::vector<bool>& borders) {
    const std::vector<std::string> pieces = cut(text, borders);
    EXPECT_EQ(told(read(parts, options, pieces, reason)), told(whole)) << ::testing::PrintToString(pieces);
  };
  expect_same(std::vector<bool>(size, true));
  for (size_t place = 1; place < text.size(); ++place) {
    std::vector<bool> borders(size);
    borders[place] = true;
    expect_same(borders);
  }
  std::mt19937 random(1);
  for (int round = 0; round < 100; ++round) {
    std::vector<bool> borders(size);
    for (size_t place = 0; place < size; ++place) borders[place] = random() % 4 == 0;
    expect_same(borders);
  }
  return whole;
}

const AnswerFormat kPlain{};
const AnswerFormat kThinking{.think_begin = "<think>", .think_end = "</think>"};

TEST(answer_reader, a_completion_is_text_whatever_it_looks_like) {
  const std::string text = "<think>a</think>\n\n<tool_call>\n{}</tool_call>\n";
  EXPECT_EQ(read_in_all_ways(text, {}).text, text);
  EXPECT_EQ(read_in_all_ways(text, {.format = &kPlain}).text, text);
}

TEST(answer_reader, thinking_is_told_apart_without_the_line_breaks_around_it) {
  const auto expect = [](const std::string& text, Thinking thinking, const std::string& reasoning, const std::string& said) {
    const Choice choice = read_in_all_ways(text, {.format = &kThinking, .thinking = thinking});
    EXPECT_EQ(choice.reasoning, reasoning) << text;
    EXPECT_EQ(choice.text, said) << text;
    EXPECT_EQ(choice.finish_reason, "stop");
  };
  expect("<think>\nWell,\n\nso </th be it\n</think>\n\nYes.\n", Thinking::may_begin, "Well,\n\nso </th be it", "Yes.\n");
  expect(" \n<think>a</think>b", Thinking::may_begin, "a", "b");
  expect("<think>\n\n</think>\n\n  code", Thinking::may_begin, "", "  code");
  expect("a <think>b</think>c", Thinking::may_begin, "", "a <think>b</think>c");
  expect("\n <thin", Thinking::may_begin, "", "\n <thin");
  expect("  ", Thinking::may_begin, "", "  ");
  expect("\nWell\n</think>\n\nYes", Thinking::begun, "Well", "Yes");
  expect("Well\n</thi", Thinking::begun, "Well\n</thi", "");
  expect("Well\n\n", Thinking::begun, "Well", "");
  expect("<think>a</think>b", Thinking::done, "", "<think>a</think>b");
}

TEST(answer_reader, thinking_is_told_while_it_comes) {
  const Parts parts("<think>abc</think>def");
  AnswerReader reader(parts.tokenizer(), {.format = &kThinking});
  EXPECT_EQ(reader.push(parts.id("<think>a"), false).reasoning, "a");
  EXPECT_EQ(reader.push(parts.id("b"), false).reasoning, "b");
  const AnswerDelta delta = reader.push(parts.id("c</think>d"), false);
  EXPECT_EQ(delta.reasoning, "c");
  EXPECT_EQ(delta.text, "d");
  EXPECT_EQ(reader.push(parts.id("e"), false).text, "e");
}

TEST(answer_reader, special_tokens_are_read_where_they_belong_to_the_format_and_hidden_elsewhere) {
  const std::string text = "[THINK]ab[/THINK]c<eos>d[ARGS]";
  const Parts parts(text);
  AnswerFormat format{.think_begin = "[THINK]", .think_end = "[/THINK]", .think_marks = parts.marks({"[THINK]", "[/THINK]"})};
  const Choice choice = read(parts, {.format = &format}, cut(text, std::vector<bool>(99)));
  EXPECT_EQ(choice.reasoning, "ab");
  EXPECT_EQ(choice.text, "cd");
  const Choice shown = read(parts, {.format = &format, .skip_special_tokens = false}, cut(text, std::vector<bool>(99)));
  EXPECT_EQ(shown.reasoning, "ab");
  EXPECT_EQ(shown.text, "c<eos>d[ARGS]");
}

TEST(answer_reader, a_stop_string_ends_text_and_thinking_and_is_named) {
  const auto expect = [](const AnswerReaderOptions& options, const std::string& reasoning, const std::string& said,
                         const std::string& stop) {
    const Choice choice = read_in_all_ways("<think>one\nEND</think>two HALT three", options);
    EXPECT_EQ(choice.reasoning, reasoning);
    EXPECT_EQ(choice.text, said);
    EXPECT_EQ(choice.stop_string, stop);
  };
  expect({.format = &kThinking, .stops = {"HALT", "xyz"}}, "one\nEND", "two ", "HALT");
  expect({.format = &kThinking, .stops = {"xyz", "HALT"}, .include_stop = true}, "one\nEND", "two HALT", "HALT");
  expect({.format = &kThinking, .stops = {"HALT", "END"}}, "one", "", "END");
  expect({.format = &kThinking, .stops = {"nowhere"}}, "one\nEND", "two HALT three", "");
}

TEST(answer_reader, the_ending_token_is_text_only_where_it_is_to_be_included) {
  const Parts parts("ab");
  for (const bool include : {false, true}) {
    AnswerReader reader(parts.tokenizer(), {.include_stop = include});
    EXPECT_EQ(reader.push(parts.id("a"), false).text, "a");
    EXPECT_EQ(reader.push(parts.id("b"), true).text, include ? "b" : "");
    EXPECT_EQ(reader.finish("stop").text, "");
  }
}

TEST(answer_reader, a_stop_string_may_begin_in_the_prompt) {
  const Parts parts("abc");
  AnswerReader reader(parts.tokenizer(), {.stops = {"bc"}, .behind = {parts.id("a"), parts.id("b")}});
  EXPECT_EQ(reader.push(parts.id("c"), false).text, "");
  EXPECT_TRUE(reader.stopped());
  EXPECT_EQ(reader.finish("stop").stop_string, "bc");
}

// Name and arguments of each call, a line each, between what else is said.
std::string calls_of(const std::string& text, AnswerReaderOptions options, std::string_view reason = "stop") {
  if (options.tools.empty()) options.tools = {"f", "g"};
  const Choice choice = read_in_all_ways(text, options, reason);
  std::string said = choice.text + "|" + choice.finish_reason;
  for (const ToolCall& call : choice.tool_calls) said += "\n" + call.name + call.arguments;
  return said;
}

TEST(answer_reader, a_tagged_call_is_told) {
  const auto of = [](const std::string& text, std::string_view reason = "stop") { return calls_of(text, {.format = &kPlain}, reason); };
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"}\\\"{\", \"y\": [1, {}]}}\n</tool_call>";
  EXPECT_EQ(of(call), "|tool_calls\nf{\"x\": \"}\\\"{\", \"y\": [1, {}]}");
  EXPECT_EQ(of("Let me look.\n\n" + call + "\n"), "Let me look.|tool_calls\nf{\"x\": \"}\\\"{\", \"y\": [1, {}]}");
  EXPECT_EQ(of("<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{ }}</tool_call>"),
            "|tool_calls\nf{}\ng{ }");
  EXPECT_EQ(of("a<tool_call>{\"arguments\": {\"k\": 1}, \"id\": null, \"x\": [\"}\"], \"name\": \"\\u0066\"}</tool_call>b"),
            "ab|tool_calls\nf{\"k\": 1}");
  EXPECT_EQ(of("<tool_call>{\"name\": \"f\"}</tool_call>"), "|tool_calls\nf{}");
  EXPECT_EQ(of("<tool_call>{\"name\": \"unknown\", \"arguments\": {}}"), "|tool_calls\nunknown{}");
  EXPECT_EQ(of("<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_ca"), "</tool_ca|tool_calls\nf{}");
  EXPECT_EQ(of("<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"lon", "length"), "|length\nf{\"x\": \"lon");
  EXPECT_EQ(of("<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"lon"), "|stop\nf{\"x\": \"lon");
}

TEST(answer_reader, a_call_that_is_not_well_formed_stays_text) {
  for (const std::string text : {"<tool_call>", "\n\n<tool_call>\n", "say <tool_call> and </tool_call>",
                                 "<tool_call>{\"name\": \"f\", \"argu", "<tool_call>{}</tool_call>", "<tool_call>[]</tool_call>",
                                 "<tool_call>{\"name\": 1, \"arguments\": {}}", "<tool_call>{\"name\": \"f\", \"arguments\": []}",
                                 "<tool_call>{\"name\": \"f\", \"arguments\": \"{}\"}", "<tool_call>{\"name\": \"\", \"arguments\": {}}",
                                 "<tool_call>{\"n\\\"ame\": 1}", "<tool_call>{\"arguments\": {\"x\": 1}}</tool_call>",
                                 "<tool_call>{name: \"f\"}", "<tool_cal\n\n\n", "a\n\n\n\n\n\n\n\n\n\n\n\n\n\n"})
    EXPECT_EQ(calls_of(text, {.format = &kPlain}), text + "|stop");
  EXPECT_EQ(calls_of("<tool_call>{<tool_call>{\"name\": \"f\"}</tool_call>", {.format = &kPlain}), "<tool_call>{|tool_calls\nf{}");
  // The name was told.
  EXPECT_EQ(calls_of("<tool_call>{\"name\": \"f\", \"arguments\": {} 7}</tool_call>", {.format = &kPlain}), "7}</tool_call>|stop\nf{}");
}

TEST(answer_reader, calls_come_behind_thinking_and_are_none_within_it) {
  const std::string call = "<tool_call>{\"name\": \"f\"}</tool_call>";
  const Choice choice = read_in_all_ways("<think>\n" + call + "\n</think>\n\n" + call, {.format = &kThinking, .tools = {"f"}});
  EXPECT_EQ(choice.reasoning, call);
  EXPECT_EQ(choice.text, "");
  EXPECT_EQ(choice.tool_calls.size(), 1);
}

TEST(answer_reader, an_answer_that_is_a_call_s_object_is_told) {
  const AnswerFormat format{.calls = AnswerFormat::Calls::object};
  const auto of = [&](const std::string& text) { return calls_of(text, {.format = &format}); };
  EXPECT_EQ(of("{\"name\": \"f\", \"parameters\": {\"x\": 1}}"), "|tool_calls\nf{\"x\": 1}");
  EXPECT_EQ(of(" \n{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}"), "|tool_calls\nf{}");
  EXPECT_EQ(of("<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"arguments\": {}}"), "|tool_calls\nf{}\ng{}");
  for (const std::string text : {"{\"name\": \"Bob\", \"parameters\": {}}", "{\"x\": 1}", "so: {\"name\": \"f\", \"parameters\": {}}", "{",
                                 "  ", "<|python_tag|>print()", "<|pyth", "{\"name\": \"f\"", ""})
    EXPECT_EQ(of(text), text + "|stop");
}

TEST(answer_reader, calls_behind_a_control_token_are_told) {
  const auto of = [](const std::string& text, AnswerFormat::Calls calls) {
    const Parts parts(text);
    const AnswerFormat format{.calls = calls, .call_marks = parts.marks({"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"})};
    return calls_of(text, {.format = &format});
  };
  for (const auto calls : {AnswerFormat::Calls::list, AnswerFormat::Calls::named}) {
    EXPECT_EQ(
        of("[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"arguments\": {}, \"name\": \"g\", \"id\": \"abc\"}]<eos>", calls),
        "|tool_calls\nf{\"x\": 1}\ng{}");
    EXPECT_EQ(of("Look:\n[TOOL_CALLS] [{\"name\": \"f\"}] so", calls), "Look: so|tool_calls\nf{}");
    EXPECT_EQ(of("[TOOL_CALLS]f[ARGS]{\"x\": {}}[TOOL_CALLS]g[CALL_ID]a1B2c3D4e[ARGS]{}", calls), "|tool_calls\nf{\"x\": {}}\ng{}");
    EXPECT_EQ(of("[TOOL_CALLS]f{\"x\": 1}", calls), "|tool_calls\nf{\"x\": 1}");
    for (const std::string text : {"[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]", "[TOOL_CALLS]f\n{}", "[TOOL_CALLS][[]]", "[TOOL_CALLS][ARGS]{}",
                                   "[TOOL_CALLS][{\"name\": 1}]"})
      EXPECT_EQ(of(text, calls), text + "|stop");
  }
}

TEST(answer_reader, what_is_sure_of_a_call_is_told_at_once_and_its_id_with_the_name) {
  const Parts parts("ab<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call>");
  AnswerReader reader(parts.tokenizer(), {.format = &kPlain, .tools = {"f"}, .choice = 3, .call_seed = "chat-1"});
  EXPECT_EQ(reader.push(parts.id("a"), false).text, "a");
  EXPECT_EQ(reader.push(parts.id("b<"), false).text, "b");
  EXPECT_TRUE(reader.push(parts.id("tool_call>{\"name\": \"f\", \"arguments\": "), false).calls.empty());
  const AnswerDelta first = reader.push(parts.id("{"), false);
  ASSERT_EQ(first.calls.size(), 1);
  EXPECT_EQ(first.choice, 3);
  EXPECT_EQ(first.calls[0].name, "f");
  EXPECT_EQ(first.calls[0].arguments, "{");
  EXPECT_EQ(first.calls[0].id.size(), 29);
  EXPECT_EQ(first.calls[0].id.find_first_not_of("0123456789abcdef", 5), std::string::npos);
  const AnswerDelta next = reader.push(parts.id("\"x\""), false);
  ASSERT_EQ(next.calls.size(), 1);
  EXPECT_EQ(next.calls[0].id + next.calls[0].name, "");
  EXPECT_EQ(next.calls[0].arguments, "\"x\"");
}

TEST(answer_reader, ids_of_calls_are_the_seed_s_and_differ_within_it) {
  const std::string text = "<tool_call>{\"name\": \"f\"}</tool_call><tool_call>{\"name\": \"f\"}</tool_call>";
  const auto ids = [&](const std::string& seed, size_t choice) {
    std::vector<std::string> all;
    for (const ToolCall& call :
         read(Parts(text), {.format = &kPlain, .tools = {"f"}, .choice = choice, .call_seed = seed}, {text}).tool_calls)
      all.push_back(call.id);
    return all;
  };
  std::set<std::string> distinct;
  for (const char* seed : {"a", "b"})
    for (size_t choice = 0; choice < 2; ++choice)
      for (const std::string& id : ids(seed, choice)) distinct.insert(id);
  EXPECT_EQ(distinct.size(), 8);
  EXPECT_EQ(ids("a", 1), ids("a", 1));
}

TEST(answer_reader, without_tools_a_call_is_text) {
  const std::string call = "<tool_call>{\"name\": \"f\"}</tool_call>";
  EXPECT_EQ(read_in_all_ways(call, {.format = &kPlain}).text, call);
  const AnswerFormat object{.calls = AnswerFormat::Calls::object};
  EXPECT_EQ(read_in_all_ways("{\"name\": \"f\", \"parameters\": {}}", {.format = &object}).text, "{\"name\": \"f\", \"parameters\": {}}");
}

TEST(answer_format, whether_an_answer_thinks_is_read_from_its_prompts_end) {
  const Parts parts("<think>\n</think> x");
  const auto behind = [&](const std::vector<std::string>& pieces) {
    std::vector<TokenId> ids;
    for (const std::string& piece : pieces) ids.push_back(parts.id(piece));
    return thinking_behind(ids, kThinking, parts.tokenizer());
  };
  EXPECT_EQ(behind({"x"}), Thinking::may_begin);
  EXPECT_EQ(behind({"<think>", "\n"}), Thinking::begun);
  EXPECT_EQ(behind({"<think>", "x", "</think>", "\n", "\n"}), Thinking::done);
  EXPECT_EQ(behind({"</think>", "x"}), Thinking::may_begin);
  EXPECT_EQ(thinking_behind({}, kPlain, parts.tokenizer()), Thinking::done);
}

}  // namespace
}  // namespace tessera::api

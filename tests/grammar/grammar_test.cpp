#include "grammar/grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "grammar/small_vocabulary.h"
#include "text/small_tokenizer.h"

namespace tessera {
namespace {

using Kind = GrammarSource::Kind;
using testing::HasSubstr;
using testing::ThrowsMessage;

// All texts of these letters that a finite form has.
std::set<std::string> texts_of(std::string_view letters, size_t longest, const std::function<bool(const std::string&)>& has) {
  std::set<std::string> texts;
  std::vector<std::string> front{""};
  for (size_t length = 0; length <= longest; ++length) {
    std::vector<std::string> next;
    for (const std::string& text : front) {
      if (has(text)) texts.insert(text);
      for (const char letter : letters) next.push_back(text + letter);
    }
    front = std::move(next);
  }
  return texts;
}

bool is_begin(const std::set<std::string>& texts, const std::string& begin) {
  const auto at = texts.lower_bound(begin);
  return at != texts.end() && at->starts_with(begin);
}

// Walks every way of tokens through the form; at each place the tokens that may come are those by which a text of the set goes on, and the
// end where one is whole. Places are left again by rollback or in a fork, by turns.
class Walk {
 public:
  Walk(GrammarVocabulary vocabulary, const std::set<std::string>& texts) : vocabulary_(std::move(vocabulary)), texts_(texts) {}

  void from(TokenConstraint& constraint, const std::string& text) {
    const std::vector<bool> may = allowed(constraint, vocabulary_.vocab_size());
    const std::vector<std::string>& tokens = vocabulary_.tokens();
    for (size_t id = 0; id < may.size(); ++id) {
      const bool expected = id == kEnd ? texts_.contains(text) : id < tokens.size() && is_begin(texts_, text + tokens[id]);
      ASSERT_EQ(may[id], expected) << "token " << id << " behind '" << text << "'";
    }
    ++places_;
    for (size_t id = 1; id < tokens.size(); ++id) {
      if (!may[id] || !seen_.insert(text + tokens[id]).second) continue;
      const TokenId token = static_cast<TokenId>(id);
      if (places_ % 2 == 0) {
        const auto other = constraint.fork();
        other->accept(token);
        from(*other, text + tokens[id]);
      } else {
        constraint.accept(token);
        from(constraint, text + tokens[id]);
        constraint.rollback(1);
      }
      if (testing::Test::HasFatalFailure()) return;
    }
    EXPECT_EQ(allowed(constraint, vocabulary_.vocab_size()), may) << "behind '" << text << "', a second time";
  }
  int places() const { return places_; }

 private:
  GrammarVocabulary vocabulary_;
  const std::set<std::string>& texts_;
  std::set<std::string> seen_;
  int places_ = 0;
};

void expect_texts(const GrammarSource& source, const std::set<std::string>& texts) {
  SCOPED_TRACE(source.text);
  const GrammarVocabulary vocabulary = small_vocabulary();
  const auto grammar = compile(vocabulary, source);
  for (const auto& form : {grammar, CompiledGrammar::read(vocabulary, grammar->serialised())}) {
    Walk walk(vocabulary, texts);
    walk.from(*constraint(form), "");
    EXPECT_GT(walk.places(), static_cast<int>(texts.size()) / 2);
  }
}

TEST(Grammar, ARegexTakesWhatStdRegexDoes) {
  for (const char* pattern : {"(ab|ba)c?", "a{2,4}b", "(a|ab)(c|bcd)?", "[ab]{3}", "[^a]b|ab", "(ab){1,3}", "a?b?c?", "(a|b|cab)(a|b|cab)",
                              "aba|abab|bba", "(aa|b){0,2}c", "abc", "b(a|b)?a?b"}) {
    SCOPED_TRACE(pattern);
    const std::regex regex(pattern);
    const auto texts = texts_of("abcd", 6, [&](const std::string& text) { return std::regex_match(text, regex); });
    ASSERT_FALSE(texts.empty());
    if (std::string_view(pattern).find("[^") != std::string_view::npos) continue;  // more letters than these four
    expect_texts({Kind::regex, pattern}, texts);
  }
}

TEST(Grammar, AChoiceIsOneOfTheTexts) {
  expect_texts({Kind::choice, R"(["ab", "abab", "ba", "cab\n", "a\"b", "a\\", "\u20ac", "é\t\u0001"])"},
               {"ab", "abab", "ba", "cab\n", "a\"b", "a\\", "\xE2\x82\xAC", "\xC3\xA9\t\x01"});
}

TEST(Grammar, AGrammarIsEbnf) {
  expect_texts({Kind::grammar, "root ::= \"a\" tail | \"cab\"\ntail ::= \"\" | \"b\" | \"ba\""}, {"a", "ab", "aba", "cab"});
}

// A byte-fallback tokenizer with special tokens <a>, <b>, <end> behind the letters.
Tokenizer tokenizer_with_marks() {
  Json json = small_tokenizer();
  Json& vocab = json["model"]["vocab"];
  for (const char* token : {"▁", "▁ab", "{", "}", "\"", "\xEF\xBF\xBD"}) vocab[token] = vocab.size();
  json["model"]["byte_fallback"] = true;
  add_byte_tokens(json, static_cast<TokenId>(vocab.size()));
  for (const char* token : {"<a>", "<b>", "<end>", "plain"})
    json["added_tokens"].push_back(added_token(static_cast<TokenId>(vocab.size() + json["added_tokens"].size()), token, token[0] == '<'));
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  return parse(json);
}

TEST(GrammarVocabulary, TokensAreTheirBytesInAText) {
  const Tokenizer tokenizer = tokenizer_with_marks();
  const auto id = [&](std::string_view token) { return tokenizer.token_to_id(token).value(); };
  const GrammarVocabulary vocabulary(tokenizer, tokenizer.vocab_size() + 3, {id("<end>")}, {id("<a>")});
  const auto bytes = [&](std::string_view token) { return vocabulary.tokens()[static_cast<size_t>(id(token))]; };
  EXPECT_EQ(bytes("▁ab"),
            " ab");  // though a text's first space is dropped
  EXPECT_EQ(bytes("ab"), "ab");
  EXPECT_EQ(bytes("<0x41>"), "A");
  EXPECT_EQ(bytes("<0xE2>"), "\xE2");
  EXPECT_EQ(bytes("<0x00>"), std::string(1, '\0'));
  EXPECT_EQ(bytes("\xEF\xBF\xBD"), "\xEF\xBF\xBD");
  EXPECT_EQ(bytes("plain"), "plain");
  EXPECT_EQ(bytes("<b>"), "");
  EXPECT_EQ(vocabulary.end_tokens(), std::vector<TokenId>{id("<end>")});
  EXPECT_EQ(vocabulary.vocab_size(), tokenizer.vocab_size() + 3);
  EXPECT_THAT([&] { GrammarVocabulary(tokenizer, tokenizer.vocab_size(), {tokenizer.vocab_size(), -1}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("no end token")));
}

TEST(Grammar, ASpecialTokenComesWhereATagNamesItAndNowhereElse) {
  const Tokenizer tokenizer = tokenizer_with_marks();
  const auto id = [&](std::string_view token) { return tokenizer.token_to_id(token).value(); };
  const GrammarVocabulary vocabulary(tokenizer, tokenizer.vocab_size(), {id("<end>")}, {id("<a>")});
  const auto may = [&](TokenConstraint& held, std::string_view token) -> bool {
    return allowed(held, vocabulary.vocab_size())[static_cast<size_t>(id(token))];
  };
  const auto tag = constraint(compile(
      vocabulary, {Kind::structural_tag,
                   message(R"({"type": "structural_tag", "format": {"type": "tag", "begin": {"type": "token", "token": )", id("<a>"),
                           R"(}, "content": {"type": "json_schema", "json_schema": {"type": "object"}}, "end": ""}})")}));
  EXPECT_TRUE(may(*tag, "<a>"));
  EXPECT_FALSE(may(*tag, "<b>"));
  EXPECT_FALSE(may(*tag, "{"));
  tag->accept(id("<a>"));
  EXPECT_TRUE(may(*tag, "{"));
  EXPECT_FALSE(may(*tag, "<a>"));
  for (const GrammarSource& source : {GrammarSource{Kind::regex, "[^b]*"}, GrammarSource{Kind::regex, ".*"},
                                      GrammarSource{Kind::json_schema, R"({"type": "string"})"}, GrammarSource{Kind::regex, "[\\s\\S]*"}}) {
    const auto held = constraint(compile(vocabulary, source));
    if (source.kind == Kind::json_schema) held->accept(id("\""));
    EXPECT_TRUE(may(*held, "a")) << source.text;
    for (const char* mark : {"<a>", "<b>"}) EXPECT_FALSE(may(*held, mark)) << source.text;
  }
  const auto free = constraint(
      compile(vocabulary, {Kind::structural_tag,
                           message(R"({"type": "structural_tag", "format": {"type": "token_triggered_tags", "trigger_tokens": [)",
                                   id("<a>"), R"(], "tags": [{"type": "tag", "begin": {"type": "token", "token": )", id("<a>"),
                                   R"(}, "content": {"type": "const_string", "value": "ab"}, "end": ""}], "stop_after_first": true}})")}));
  EXPECT_TRUE(may(*free, "<a>"));
  EXPECT_TRUE(may(*free, "plain"));
  EXPECT_FALSE(may(*free, "<b>"));
  free->accept(id("plain"));
  free->accept(id("<a>"));
  EXPECT_TRUE(may(*free, "ab"));
  EXPECT_FALSE(may(*free, "<a>"));
  EXPECT_FALSE(may(*free, "b"));
}

TEST(Grammar, ATokenThatTakesTooLongEndsTheText) {
  const GrammarVocabulary vocabulary({"", "a", std::string(100, 'a')}, 3, {kEnd});
  const auto held = constraint(compile(vocabulary, {Kind::grammar, "root ::= s\ns ::= s s s | s s | \"a\" | \"\""}));
  const auto write = [&] {
    for (int i = 0; i < 100; ++i) {
      allowed(*held, vocabulary.vocab_size());
      held->accept(2);
    }
  };
  EXPECT_THAT(write, ThrowsMessage<std::runtime_error>(HasSubstr("ms of at most 50")));
}

TEST(Grammar, NothingComesBehindTheEndUntilItIsTakenBack) {
  const GrammarVocabulary vocabulary = small_vocabulary();
  const auto held = constraint(compile(vocabulary, {Kind::regex, "ab"}));
  EXPECT_THAT([&] { held->accept(1 + 'b'); }, ThrowsMessage<std::invalid_argument>(HasSubstr("does not continue")));
  ASSERT_TRUE(takes(*held, vocabulary, "ab"));
  held->accept(kEnd);
  EXPECT_THAT([&] { allowed(*held, vocabulary.vocab_size()); }, ThrowsMessage<std::runtime_error>(HasSubstr("text's end")));
  held->rollback(2);
  EXPECT_TRUE(takes(*held, vocabulary, "b"));
}

TEST(Grammar, WhatIsNoCompiledFormIsNotRead) {
  const GrammarVocabulary vocabulary = small_vocabulary();
  const std::string bytes = compile(vocabulary, {Kind::json_schema, R"({"type": "string", "maxLength": 3})"})->serialised();
  EXPECT_NE(CompiledGrammar::read(vocabulary, bytes), nullptr);
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 16)
    EXPECT_THROW(CompiledGrammar::read(vocabulary, bytes.substr(0, size)), std::runtime_error) << size;
  EXPECT_THROW(CompiledGrammar::read(vocabulary, bytes + "x"), std::runtime_error);
}

TEST(Grammar, ThreadsShareACompiledForm) {
  const GrammarVocabulary vocabulary = small_vocabulary();
  const auto grammar = compile(vocabulary, {Kind::json});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] { EXPECT_TRUE(takes_whole(vocabulary, grammar, "{\"a\": [" + std::to_string(i) + ", {\"b\": null}]}")); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tessera

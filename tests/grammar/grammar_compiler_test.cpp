#include "grammar/grammar_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "grammar/schema_caps.h"
#include "grammar/small_vocabulary.h"
#include "thinned.h"

namespace tessera {
namespace {

using Kind = GrammarSource::Kind;
using testing::HasSubstr;
using testing::ThrowsMessage;

GrammarCompilerOptions options() { return {.command = {TESSERA_GRAMMAR_WORKER}, .wall_seconds = 120}; }

GrammarSource regex(const std::string& pattern) { return {Kind::regex, pattern}; }

// The processes that this one started, and those that they did.
std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(parent) + "/task")) {
    std::ifstream children(thread.path() / "children");
    for (pid_t child; children >> child;) found.push_back(child);
  }
  return found;
}

pid_t the_helper() {
  const std::vector<pid_t> children = children_of(::getpid());
  EXPECT_EQ(children.size(), 1u);
  return children.empty() ? -1 : children.front();
}

TEST(GrammarCompiler, WhatComesBackIsWhatWouldBeCompiledHere) {
  GrammarCompiler compiler(small_vocabulary(), options());
  for (const GrammarSource& source :
       {regex("(ab|ba){2}c?"), GrammarSource{Kind::json}, GrammarSource{Kind::choice, R"(["a", "b"])"},
        GrammarSource{Kind::json_schema, R"({"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}}})"}}) {
    const auto away = constraint(compiler.compile(source, "me"));
    const auto here = constraint(compile(small_vocabulary(), source));
    for (const std::string text : {"", "{", "{\"a\"", "ab", "abba", "a"}) {
      const auto one = away->fork(), other = here->fork();
      EXPECT_EQ(takes(*one, compiler.vocabulary(), text), takes(*other, compiler.vocabulary(), text));
      EXPECT_EQ(allowed(*one, compiler.vocabulary().vocab_size()), allowed(*other, compiler.vocabulary().vocab_size())) << text;
    }
  }
}

TEST(GrammarCompiler, KeepsWhatItCompiled) {
  GrammarCompiler compiler(small_vocabulary(), options());
  const auto first = compiler.compile(regex("a{3}"), "me");
  EXPECT_EQ(compiler.compile(regex("a{3}"), "other"), first);
  EXPECT_NE(compiler.compile({Kind::grammar, "root ::= \"a\""}, "me"), first);

  GrammarCompilerOptions small = options();
  small.cache_bytes = first->bytes() * 2 + 1500;
  GrammarCompiler forgetful(small_vocabulary(), small);
  const std::weak_ptr<const CompiledGrammar> one = forgetful.compile(regex("a{3}"), "me");
  EXPECT_FALSE(one.expired());
  for (const char* pattern : {"b{3}", "c{3}", "d{3}"}) forgetful.compile(regex(pattern), "me");
  EXPECT_TRUE(one.expired());
  EXPECT_NE(forgetful.compile(regex("a{3}"), "me"), nullptr);
}

std::string nested(size_t depth, const std::string& open, const std::string& inside, const std::string& close) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open;
  text += inside;
  for (size_t i = 0; i < depth; ++i) text += close;
  return text;
}

std::string values(size_t count) {
  std::string list = "[\"v0\"";
  for (size_t i = 1; i < count; ++i) list += ", \"v" + std::to_string(i) + "\"";
  return list + "]";
}

std::string properties(size_t count) {
  std::string all = "{";
  for (size_t i = 0; i < count; ++i) all += (i > 0 ? ", \"p" : "\"p") + std::to_string(i) + R"(": {"type": "string"})";
  return all + "}";
}

// Forms that would crash a compiler, or keep it for long or for ever.
std::vector<GrammarSource> hostile_forms() {
  const auto schema = [](const std::string& text) { return GrammarSource{Kind::json_schema, text}; };
  const auto quoted = [](const std::string& pattern) { return R"({"type": "string", "pattern": ")" + pattern + R"("})"; };
  return {regex(nested(60'000, "(", "a", ")")),
          schema(quoted(nested(60'000, "(", "a", ")"))),
          schema(quoted(nested(100, "(", "a", ")"))),
          schema(R"({"enum": )" + values(100'000) + "}"),
          {Kind::choice, values(100'000)},
          schema(nested(8, R"({"anyOf": [{"type": "integer"}, )", R"({"type": "string"})", "]}")),
          schema(nested(8, R"({"properties": {"a": {"oneOf": [{"type": "integer"}, )", R"({"type": "string"})", "]}}}")),
          schema(nested(100'000, "[", "", "]")),
          schema(nested(100'000, R"({"items": )", "{}", "}")),
          schema(nested(17, R"({"items": )", "{}", "}")),
          schema(R"({"type": "object", "properties": )" + properties(500) + "}"),
          schema(R"({"type": "array", "prefixItems": [{"properties": )" + properties(251) + R"(}, {"properties": )" + properties(250) +
                 R"(}, {"properties": )" + properties(250) + R"(}, {"properties": )" + properties(250) + "}]}"),
          schema(R"({"$ref": "#"})"),
          schema(R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})"),
          schema(R"({"type": "string", "minLength": 9223372036854775808})"),
          schema(R"({"type": "array", "items": {}, "minItems": 9223372036854775807})"),
          schema("\xFF"),
          schema("{\"a\": 1, \"a\": 2}"),
          schema("12"),
          schema(""),
          regex("foo**"),
          regex("a{2}{3}"),
          regex("(?=a)b"),
          regex("["),
          regex("a\xFF"),
          {Kind::choice, R"(["a", ""])"},
          {Kind::grammar, nested(60'000, "root ::= (", "\"a\"", ")")},
          {Kind::grammar, "root ::= " + nested(60'000, "(", "\"a\"", ")")},
          {Kind::grammar, "root ::= root"},
          {Kind::grammar, "other ::= \"a\""},
          {Kind::grammar, std::string(70'000, '#')},
          {Kind::structural_tag, nested(100'000, "[", "", "]")},
          {Kind::structural_tag,
           R"({"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {"enum": )" + values(100'000) + "}}}"},
          {Kind::structural_tag, R"({"type": "structural_tag", "format": {"type": "nothing"}})"}};
}

TEST(GrammarCompiler, HostileFormsAreRefusedWhileHonestOnesPass) {
  GrammarCompiler compiler(small_vocabulary(), options());
  std::atomic<bool> is_over = false;
  std::thread honest([&] {
    for (int i = 0; !is_over; ++i)
      EXPECT_TRUE(takes_whole(compiler.vocabulary(), compiler.compile({Kind::choice, "[\"" + std::to_string(i) + "\"]"}, "honest"),
                              std::to_string(i)));
  });
  const pid_t helper = the_helper();
  for (const GrammarSource& source : hostile_forms()) {
    SCOPED_TRACE(std::string(name_of(source.kind)) + " " + source.text.substr(0, 100));
    const auto refusal_of = [&] {
      try {
        compiler.compile(source, "hostile");
      } catch (const std::invalid_argument& error) {
        return std::string(error.what());
      }
      return std::string("is not refused");
    };
    const std::string refusal = refusal_of();
    EXPECT_THAT(refusal, testing::StartsWith(name_of(source.kind)));
    EXPECT_LT(refusal.size(), 400u);
    for (const char* secret : {".cc:", ".h:", "/cpp/", "0x"}) EXPECT_THAT(refusal, testing::Not(HasSubstr(secret)));
    EXPECT_EQ(refusal_of(), refusal);
  }
  is_over = true;
  honest.join();
  EXPECT_EQ(the_helper(), helper);
}

// What the caps let pass: each takes more than a limit.
TEST(GrammarCompiler, AFormHasItsLimits) {
  std::vector<std::string> tokens = small_tokens();
  for (char a = 'a'; a <= 'z'; ++a)
    for (char b = 'a'; b <= 'z'; ++b)
      for (char c = 'a'; c <= 'z'; ++c)
        for (const char* end : {"", "y", "yz"}) tokens.push_back(std::string{a, b, c} + end);
  const GrammarVocabulary large(tokens, static_cast<int64_t>(tokens.size()), {kEnd});
  const auto refusal_of = [&](const GrammarCompilerOptions& limits, const GrammarSource& source) -> std::string {
    GrammarCompiler compiler(large, limits);
    const pid_t helper = the_helper();
    EXPECT_NE(compiler.compile(regex("ab"), "me"), nullptr);
    std::string refusal = "is not refused";
    try {
      compiler.compile(source, "me");
    } catch (const std::invalid_argument& error) {
      refusal = error.what();
    }
    EXPECT_NE(compiler.compile(regex("abc"), "me"), nullptr);
    EXPECT_EQ(the_helper(), helper);
    return refusal;
  };
  GrammarCompilerOptions limits = options();
  limits.cpu_seconds = 1;
  EXPECT_THAT(refusal_of(limits, regex("([^a]{1,3000}b){1,300}([^c]{1,3000}d){1,300}")), HasSubstr("more than 1 s to compile"));
  limits.cpu_seconds = 100;
  if (!kSanitizerBuild) {  // their allocators end in their own ways
    limits.memory_bytes = int64_t{1} << 20;
    EXPECT_THAT(refusal_of(limits, regex("([^a]{1,30}b){1,30}([^c]{1,30}d){1,30}")), HasSubstr("more than 1 MiB to compile"));
  }
  limits.memory_bytes = options().memory_bytes;
  limits.result_bytes = 5000;
  EXPECT_THAT(refusal_of(limits, regex("([^a]{1,30}b){1,30}([^c]{1,30}d){1,30}")), HasSubstr("bytes; at most 5000"));
}

TEST(GrammarCompiler, AHelperThatIsKilledIsStartedAnew) {
  GrammarCompiler compiler(small_vocabulary(), options());
  const pid_t first = the_helper();
  ::kill(first, SIGKILL);
  EXPECT_NE(compiler.compile(regex("a{2}"), "me"), nullptr);
  const pid_t second = the_helper();
  EXPECT_NE(second, first);

  // Killed while a child of it is at work.
  const GrammarSource slow = regex("([^a]{1,300}b){1,30}");
  auto waits = std::async(std::launch::async, [&] { return compiler.compile(slow, "me"); });
  std::vector<pid_t> children;
  while (children.empty() && waits.wait_for(std::chrono::seconds(0)) != std::future_status::ready) children = children_of(second);
  ::kill(second, SIGKILL);
  EXPECT_NE(waits.get(), nullptr);
  for (const pid_t child : children) {  // it ended with its parent
    for (int i = 0; i < 1000 && ::kill(child, 0) == 0 && std::filesystem::exists("/proc/" + std::to_string(child)); ++i) {
      std::string state;
      std::ifstream(message("/proc/", child, "/stat")).ignore(1000, ')') >> state;
      if (state == "Z") break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

TEST(GrammarCompiler, AProcessThatCannotWorkIsAnErrorOfItsOwn) {
  for (const char* program : {"/nowhere/at/all", "/bin/true"}) {
    GrammarCompilerOptions none = options();
    none.command = {program};
    EXPECT_THAT([&] { GrammarCompiler(small_vocabulary(), none); }, ThrowsMessage<ResourceError>(HasSubstr("process that compiles")));
  }
  GrammarCompilerOptions hasty = options();
  hasty.wall_seconds = 1e-9;
  GrammarCompiler compiler(small_vocabulary(), hasty);
  EXPECT_THAT([&] { compiler.compile(regex("ab"), "me"); }, ThrowsMessage<ResourceError>(HasSubstr("was not compiled within")));
}

TEST(GrammarCompiler, OwnersTakeTurns) {
  GrammarCompilerOptions few = options();
  few.max_waiting = 3;
  GrammarCompiler compiler(small_vocabulary(), few);
  std::mutex mutex;
  std::vector<std::string> order;
  std::vector<std::thread> threads;
  const auto ask = [&](const std::string& owner, const std::string& pattern) {
    threads.emplace_back([&, owner, pattern] {
      compiler.compile(regex(pattern), owner);
      const std::lock_guard lock(mutex);
      order.push_back(owner);
    });
  };
  // The first holds the process, stopped, until all wait.
  const pid_t helper = the_helper();
  ::kill(helper, SIGSTOP);
  ask("first", "a{7}");
  while (compiler.waiting() != 1) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) {
    ask("greedy", "b{" + std::to_string(i + 2) + "}");
    while (compiler.waiting() != static_cast<size_t>(i + 2)) std::this_thread::yield();
  }
  EXPECT_THAT([&] { compiler.compile(regex("b{9}"), "greedy"); },
              ThrowsMessage<ResourceError>(HasSubstr("3 forms of this client are waiting")));
  ask("honest", "c{2}");
  while (compiler.waiting() != 5) std::this_thread::yield();
  ::kill(helper, SIGCONT);
  for (std::thread& thread : threads) thread.join();
  const auto place = std::find(order.begin(), order.end(), "honest") - order.begin();
  EXPECT_LE(place, 2 + 1) << "behind the first and one of the greedy's, where one more may have told of its end before";
  EXPECT_EQ(order.size(), 5u);
}

}  // namespace
}  // namespace tessera

#include "grammar/grammar_compiler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "grammar/small_vocabulary.h"

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

TEST(GrammarCompiler, RefusesWhatTakesTooLong) {
  GrammarCompilerOptions little = options();
  little.cpu_seconds = 1;
  little.memory_bytes = int64_t{64} << 20;
  GrammarCompiler compiler(small_vocabulary(), little);
}

}  // namespace
}  // namespace tessera

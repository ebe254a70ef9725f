#pragma once
// xgrammar as the rest of this folder sees it: its logging becomes exceptions and notes of this thread.
#include <xgrammar/xgrammar.h>

#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace tessera::grammar {

struct Vocabulary {
  int64_t size;
  xgrammar::TokenizerInfo tokens;
};

struct Compiled {
  xgrammar::CompiledGrammar grammar;
};

// While one lives, what xgrammar warns of in this thread is gathered. One at a time.
class Warnings {
 public:
  Warnings();
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  ~Warnings();
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

// What an error says, as it may be shown to a stranger: one line, printable, at most 300 bytes, without xgrammar's source positions.
std::string cleaned(std::string_view text);

}  // namespace tessera::grammar

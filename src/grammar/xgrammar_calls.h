#pragma once
#include <xgrammar/xgrammar.h>

#include <string>
#include <string_view>

#include "grammar/grammar.h"

namespace tessera::grammar {

struct Vocabulary {
  int64_t size;
  xgrammar::TokenizerInfo tokens;
};

struct Compiled {
  xgrammar::CompiledGrammar grammar;
};

// What an error says, as it may be shown to a stranger: one line, printable, at most 300 bytes, without xgrammar's source positions.
std::string cleaned(std::string_view text);

}  // namespace tessera::grammar

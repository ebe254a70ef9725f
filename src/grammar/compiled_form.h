#pragma once
// A compiled grammar as bytes. xgrammar's own form repeats the states of all rules in each rule, so that 500 rules take 100 MB.
#include <xgrammar/xgrammar.h>

#include <string>
#include <string_view>

namespace tessera::grammar {

std::string write_compiled(const xgrammar::CompiledGrammar& compiled);

// Of the same build and vocabulary. Throws std::runtime_error for bytes that write_compiled() did not give.
xgrammar::CompiledGrammar read_compiled(std::string_view bytes, const xgrammar::TokenizerInfo& vocabulary);

}  // namespace tessera::grammar

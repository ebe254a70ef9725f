#pragma once
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace tessera {

inline constexpr TokenId kEnd = 0;

// Every byte, and tokens of several that begin, end or hold each other; the end's id is kEnd.
inline std::vector<std::string> small_tokens() {
  std::vector<std::string> tokens{""};
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* text :
       {"ab",  "ba",     "aba",   "abab", "bb",   "bba",   "cab",      "abc",          "bc",       "a\n",   "\"a",  "{\"",
        "\":", "\": \"", "\",\"", "\"}",  "}}",   "[[",    "]]",       ", ",           "true",     "false", "null", "12",
        "123", "-1",     "1.",    "e+",   "\\\"", "\\u00", "\xC3\xA9", "\xE2\x82\xAC", "\x82\xAC", "a\xE2", "  ",   " \n"})
    tokens.emplace_back(text);
  return tokens;
}

// Ids beyond the tokens belong to no token.
inline GrammarVocabulary small_vocabulary() {
  const std::vector<std::string> tokens = small_tokens();
  return {tokens, static_cast<int64_t>(tokens.size()) + 7, {kEnd}};
}

// Which ids may come; all of them where the constraint binds nothing.
inline std::vector<bool> allowed(TokenConstraint& constraint, int64_t vocab_size) {
  std::vector<int32_t> bits(static_cast<size_t>(vocab_size + 31) / 32, 0x55555555);
  std::vector<bool> may(static_cast<size_t>(vocab_size), true);
  if (!constraint.allowed(bits)) return may;
  for (size_t id = 0; id < may.size(); ++id) may[id] = (bits[id / 32] >> (id % 32)) & 1;
  return may;
}

// The shortest way to a text: byte by byte. False where some byte may not come; the constraint is left there.
inline bool takes(TokenConstraint& constraint, const GrammarVocabulary& vocabulary, std::string_view text) {
  for (const char c : text) {
    const TokenId id = 1 + static_cast<unsigned char>(c);
    if (!allowed(constraint, vocabulary.vocab_size())[static_cast<size_t>(id)]) return false;
    constraint.accept(id);
  }
  return true;
}

// Whether the text may be all.
inline bool takes_whole(const GrammarVocabulary& vocabulary, const std::shared_ptr<const CompiledGrammar>& grammar, std::string_view text) {
  const auto held = constraint(grammar);
  return takes(*held, vocabulary, text) && allowed(*held, vocabulary.vocab_size())[kEnd];
}

}  // namespace tessera

#include <algorithm>
#include <array>
#include <optional>

#include "core/error.h"
#include "grammar/xgrammar_calls.h"
#include "text/byte_level.h"

namespace tessera {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::optional<char> byte_of(std::string_view token) {
  const auto hex = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>' || hex(token[3]) < 0 || hex(token[4]) < 0) return std::nullopt;
  return static_cast<char>(hex(token[3]) * 16 + hex(token[4]));
}

// A token that is text, so that what stands behind it is not the text's begin, where a decoder may drop a space.
TokenId find_anchor(const Tokenizer& tokenizer) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view token = tokenizer.id_to_token(id);
    if (token.size() == 1 && token[0] > ' ' && token[0] <= '~' && !tokenizer.is_special(id)) return id;
  }
  fail<FileError>("grammar: the tokenizer has no token of one ASCII character; a form cannot be held with it");
}

std::vector<std::string> bytes_of_tokens(const Tokenizer& tokenizer, int64_t vocab_size, const std::vector<TokenId>& marks) {
  std::vector<std::string> tokens(static_cast<size_t>(std::min<int64_t>(vocab_size, tokenizer.vocab_size())));
  const TokenId anchor = find_anchor(tokenizer);
  const size_t anchor_bytes = tokenizer.id_to_token(anchor).size();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenId id = static_cast<TokenId>(i);
    if (!tokenizer.has_token(id) || tokenizer.is_special(id)) continue;
    tokens[i] = tokenizer.decode(std::array{anchor, id}, {}).substr(anchor_bytes);
    if (tokens[i].find(kReplacement) == std::string::npos) continue;
    const std::string_view token = tokenizer.id_to_token(id);  // a part of a character, or U+FFFD itself
    if (const auto byte = byte_of(token)) {
      tokens[i] = *byte;
    } else if (token.find(kReplacement) == std::string_view::npos) {
      tokens[i] = text::bytes_of_letters(token);
    }
  }
  for (const TokenId id : marks)  // a byte that is in no UTF-8: no character is it, and xgrammar takes a token without bytes for none
    if (id >= 0 && static_cast<size_t>(id) < tokens.size() && tokenizer.is_special(id))
      tokens[static_cast<size_t>(id)] = message('\xFF', id);
  return tokens;
}

}  // namespace

GrammarVocabulary::GrammarVocabulary(const Tokenizer& tokenizer, int64_t vocab_size, const std::vector<TokenId>& end_tokens,
                                     const std::vector<TokenId>& marks)
    : GrammarVocabulary(bytes_of_tokens(tokenizer, vocab_size, marks), vocab_size, end_tokens) {}

GrammarVocabulary::GrammarVocabulary(std::vector<std::string> tokens, int64_t vocab_size, const std::vector<TokenId>& end_tokens) {
  check(static_cast<int64_t>(tokens.size()) <= vocab_size, "grammar: ", tokens.size(), " tokens for a model of ", vocab_size);
  std::vector<TokenId> ends;
  for (const TokenId id : end_tokens)
    if (id >= 0 && id < vocab_size) ends.push_back(id);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  check(!ends.empty(), "grammar: the model has no end token, so a text that keeps to a form could not end");
  if (tokens.size() <= static_cast<size_t>(ends.back())) tokens.resize(static_cast<size_t>(ends.back()) + 1);
  parts_ = std::make_shared<const grammar::Vocabulary>(
      grammar::Vocabulary{vocab_size, xgrammar::TokenizerInfo(tokens, xgrammar::VocabType::RAW, static_cast<int>(vocab_size), ends)});
}

int64_t GrammarVocabulary::vocab_size() const { return parts_->size; }
const std::vector<std::string>& GrammarVocabulary::tokens() const { return parts_->tokens.GetDecodedVocab(); }
const std::vector<TokenId>& GrammarVocabulary::end_tokens() const { return parts_->tokens.GetStopTokenIds(); }

}  // namespace tessera

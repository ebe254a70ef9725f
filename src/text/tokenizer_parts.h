#pragma once
// What a Tokenizer is made of. For its own sources only.
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace tessera {

struct Tokenizer::Parts {
  explicit Parts(const text::Fields& root) : Parts(root, text::Bpe(root.object("model"))) {}
  Parts(const text::Fields& root, text::Bpe bpe);  // of root's "model"

  // A file that is kept for the next run. restore gives null if it is not there, of another identity or damaged; both throw FileError and
  // ResourceError. `rest` is the tokenizer.json without the model's vocabulary and merges.
  static std::unique_ptr<const Parts> restore(const std::string& path, const std::string& identity);
  void keep(const std::string& path, const std::string& identity, const std::string& rest) const;

  text::Normalizer normalizer;
  text::PreTokenizer pre_tokenizer;
  text::Bpe model;
  text::AddedTokens added;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  TokenId end_id;
  std::vector<bool> special;  // by id

  // The token's text, or nothing when there is no such token or options leave it out. Throws std::invalid_argument for a negative id.
  std::optional<std::string_view> token_for_text(TokenId id, const DecodeOptions& options) const;
};

}  // namespace tessera

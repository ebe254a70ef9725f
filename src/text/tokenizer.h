#pragma once
// A checkpoint's tokenizer, read from its tokenizer.json: byte pair encoding as Hugging Face's `tokenizers` library does it, the same ids
// and the same text. Families: Gemma, Phi-3 and Llama 2, Llama 3, Qwen2, SmolLM2.
//
// A part of a tokenizer.json that isn't known is refused by name. "truncation" and "padding" are not used: as in transformers, they belong
// to a call. A Tokenizer is constant; threads may share it.
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace tessera {

struct EncodeOptions {
  bool add_special_tokens = false;  // what the post-processor puts around a text, for example <bos>
  // Whether the texts of special tokens (control tokens such as <end_of_turn>) mean these tokens. If not, they are plain text, and no
  // special token's id comes out of the text, by whatever merge (the unknown token aside).
  bool parse_special = false;
};

// A part of a prompt: a template's text has its special tokens parsed, a person's has not.
struct TextSpan {
  std::string_view text;
  bool parse_special;
};

struct DecodeOptions {
  bool skip_special = false;  // leaves special tokens out
};

class Tokenizer {
 public:
  static constexpr size_t kLargestFile = size_t{128} << 20;  // bytes; Gemma's has 33 MB

  // Throws FileError when the file is absent, larger than kLargestFile, malformed, or needs what isn't supported. In `folder` the tables
  // of a large one are kept for the next time that it is loaded, as long as its bytes are the same; nullopt: nothing is kept.
  // The ids are AutoTokenizer's: of a "llama" tokenizer_config.json is read too, since transformers builds Llama 2's pipeline itself,
  // whatever the file says. `model_type`: config.json's; nullopt: it is read from beside the file.
  static Tokenizer load(const std::string& path, const std::optional<std::filesystem::path>& folder = std::nullopt,
                        const std::optional<std::string>& model_type = std::nullopt);
  // The same from JSON in memory; `source` begins every message.
  static Tokenizer parse(std::string_view json, const std::string& source);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of a text. Throws std::invalid_argument when the text is not valid UTF-8 (naming the byte), longer than 256 MiB, or takes one
  // of the tokenizer's regular expressions more than its step limit.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const;

  // The ids of spans that are one text together: as if their joined text had been encoded with special tokens parsed, except that special
  // tokens are found only where they lie wholly within a span with parse_special; no other text can make, break or hide one. Words and
  // merges may reach across spans, as they would in the joined text.
  std::vector<TokenId> encode(std::span<const TextSpan> spans, bool add_special_tokens) const;
  // The same with `controls` (by id, vocab_size() of them) in place of the special tokens.
  std::vector<TokenId> encode(std::span<const TextSpan> spans, bool add_special_tokens, const std::vector<bool>& controls) const;

  // The tokens that control a conversation whose template has these texts: the special ones, and the added ones that stand in one of the
  // texts and are not all white space. By id.
  std::vector<bool> control_tokens(std::span<const std::string_view> texts) const;

  // The text of ids. An id that has no token (a model may have more rows than tokens) is left out. Throws std::invalid_argument for a
  // negative id.
  std::string decode(std::span<const TokenId> ids, const DecodeOptions& options) const;

  std::optional<TokenId> token_to_id(std::string_view token) const;
  // The token as the vocabulary has it ("▁the", "Ġthe"), empty for an id without a token. Valid as long as the tokenizer.
  std::string_view id_to_token(TokenId id) const;
  bool has_token(TokenId id) const;
  bool is_special(TokenId id) const;  // a control token: not part of the text
  TokenId vocab_size() const;         // one more than the largest id, added tokens included

 private:
  friend class Detokenizer;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace tessera

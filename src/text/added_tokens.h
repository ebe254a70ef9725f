#pragma once
// The "added_tokens" of a tokenizer.json: tokens that are found in a text before the model sees it. The special ones are control tokens.
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/types.h"
#include "text/fields.h"
#include "text/normalizer.h"
#include "text/vocabulary.h"

namespace tessera::text {

struct AddedToken {
  TokenId id;
  std::string content;
  bool single_word;  // only where no word character stands beside it
  bool lstrip;       // swallows the white space before it
  bool rstrip;       // swallows the white space behind it
  bool normalized;   // found in the normalized text, in its own normalized form; else in the text as it came
                     // (it decodes to its content, where the `tokenizers` library gives the normalized form)
  bool special;
};

// A part of a text: an added token, or (token kNoToken) text between them.
struct Segment {
  Range range;
  TokenId token;
};

// Finds the longest of a set of texts that stands at a place.
class LongestMatch {
 public:
  // Of texts that are equal, the first counts.
  void add(std::string_view text, const AddedToken* token) { entries_.push_back({std::string(text), token}); }
  void finish();

  // The longest text of the set with which text.substr(at, end - at) begins, or null. `bytes` is its length. `only`: tokens by id.
  const AddedToken* find(std::string_view text, size_t at, size_t end, size_t& bytes, const std::vector<bool>* only) const;

 private:
  struct Entry {
    std::string text;
    const AddedToken* token;
  };
  std::vector<Entry> entries_;                    // sorted by text
  std::array<uint32_t, 257> first_of_byte_ = {};  // where the texts begin that begin with a byte
};

class AddedTokens {
 public:
  // Reads root's "added_tokens". A token must have the id that it has in the model's vocabulary or, when it isn't there, the next free one:
  // the `tokenizers` library would silently give it that one.
  AddedTokens(const Fields& root, const Vocabulary& model, const Normalizer& normalizer);
  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  const AddedToken* find(TokenId id) const;
  const AddedToken* find(std::string_view content) const;
  TokenId end_id() const { return end_id_; }  // one more than the largest id; 0 when there are none

  // The special tokens, and those that stand in one of the texts and are not all white space: by id, for `size` ids.
  std::vector<bool> controls(std::span<const std::string_view> texts, size_t size) const;

  // Cuts a text at its added tokens. `parsed` says where control tokens count: ranges in order, not overlapping. Within them a control
  // token that fits wholly is found before anything else could hide it; elsewhere its text is text. Other tokens are found everywhere.
  std::vector<Segment> cut(std::string_view text, std::span<const Range> parsed, const std::vector<bool>& controls) const;

  // The same for tokens that are found in normalized text; the control tokens only if they are to be found.
  enum class Controls { skipped, found };
  std::vector<Segment> cut_normalized(std::string_view text, Controls found, const std::vector<bool>& controls) const;

 private:
  enum class Wanted { all, controls, others };
  static void scan(const LongestMatch& set, std::string_view text, Range within, Wanted wanted, const std::vector<bool>& controls,
                   std::vector<Segment>& tokens);

  std::unordered_map<TokenId, AddedToken> tokens_;
  std::unordered_map<std::string, TokenId> ids_;
  LongestMatch raw_, contents_, normalized_;
  TokenId end_id_ = 0;
};

}  // namespace tessera::text

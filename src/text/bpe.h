#pragma once
// Byte pair encoding: the "model" of a tokenizer.json.
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "text/fields.h"
#include "text/vocabulary.h"

namespace tessera::text {

// The merges by the pair of ids that they join.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    TokenId joined;
  };

  void reserve(size_t merges);
  // A pair given twice keeps the last rank. At most as many pairs as were reserved.
  void set(TokenId left, TokenId right, Merge merge);
  const Merge* find(TokenId left, TokenId right) const;  // null when the pair isn't merged

  // In a file that is kept for the next run; nothing if it does not hold merges of this vocabulary's tokens.
  void keep(KeptFileWriter& file) const;
  static std::optional<MergeTable> restore(const KeptFile& file, const Vocabulary& vocabulary);

 private:
  static constexpr uint64_t kFree = UINT64_MAX;
  struct Slot {
    uint64_t pair;
    Merge merge;
  };
  size_t slot_of(uint64_t pair) const;

  HashKeys keys_ = HashKeys::draw();
  std::vector<Slot> slots_;  // a power of two, at least half of them free
};

class Bpe {
 public:
  static constexpr size_t kMostMerges = size_t{1} << 21;  // Gemma has 514,906

  // Refuses a model of another type, random dropout, subword prefixes and suffixes, merges of unknown tokens and malformed byte tokens.
  explicit Bpe(const Fields& model);
  // The same, its vocabulary and merges from a file that keep() wrote; `model` has all else. nullopt if the file does not hold them.
  static std::optional<Bpe> restore(const Fields& model, const KeptFile& file);
  void keep(KeptFileWriter& file) const;

  // Memory that one call of encode leaves to the next.
  struct Workspace {
    struct Symbol {
      TokenId id;
      uint32_t previous, next;
      bool is_merged;  // into the symbol before it
    };
    struct Candidate {
      uint32_t rank, position;
      TokenId joined;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> candidates;  // a heap
  };

  // Appends the ids of `word`, which is valid UTF-8: O(n log n) in its length. Ids of which `forbidden` is true are never made, neither
  // from a text that equals the token's nor by a merge (the unknown token aside); an empty `forbidden` allows all.
  void encode(std::string_view word, const std::vector<bool>& forbidden, Workspace& workspace, std::vector<TokenId>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Bpe() = default;
  void read_options(const Fields& model);
  void read_tokens(const Fields& model);
  void read_vocabulary(const Fields& model);
  void read_merges(const Fields& model);
  void read_bytes(const Fields& model);
  TokenId find_character(std::string_view character) const;
  void add_symbols(std::string_view word, const std::vector<bool>& forbidden, std::vector<Workspace::Symbol>& symbols) const;
  void merge(const std::vector<bool>& forbidden, Workspace& workspace) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<TokenId> short_characters_;                // by code point, of those of one or two bytes
  std::optional<std::array<TokenId, 256>> byte_tokens_;  // <0x00> to <0xFF>, kNoToken where absent; with byte fallback only
  TokenId unknown_ = kNoToken;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
};

}  // namespace tessera::text

#pragma once
// The tokens of a tokenizer: text to id and id to text. Ids may leave gaps, as some families' do.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/kept_file.h"
#include "core/types.h"

namespace tessera::text {

inline constexpr TokenId kNoToken = -1;

// Of the hashes of one table: drawn at random, so that no file can be made to collide.
struct HashKeys {
  uint64_t first, second;
  static HashKeys draw();
};

class Vocabulary {
 public:
  // Far above any real vocabulary (262,145 tokens of at most a few hundred bytes): a hostile file can't ask for more memory than this
  // allows.
  static constexpr TokenId kLargestId = (TokenId{1} << 22) - 1;
  static constexpr size_t kLongestToken = 65536;  // bytes

  // Room for `tokens` tokens.
  void reserve(size_t tokens);
  // `id` is within 0 and kLargestId, `token` at most kLongestToken bytes and not there yet. False, and nothing is added, if the id is
  // taken.
  bool add(std::string_view token, TokenId id);

  TokenId find(std::string_view token) const;  // kNoToken when there is none
  bool has(TokenId id) const { return id >= 0 && id < end_id() && places_[id].begin != kGap; }
  std::string_view token(TokenId id) const { return {bytes_.data() + places_[id].begin, places_[id].size}; }  // has(id)
  bool is(TokenId id, std::string_view token) const { return has(id) && this->token(id) == token; }

  TokenId end_id() const { return static_cast<TokenId>(places_.size()); }  // one more than the largest id
  size_t size() const { return size_; }

  // In a file that is kept for the next run; nothing if it does not hold a vocabulary.
  void keep(KeptFileWriter& file) const;
  static std::optional<Vocabulary> restore(const KeptFile& file);

 private:
  static constexpr uint32_t kGap = UINT32_MAX;
  struct Place {
    uint32_t begin;
    uint32_t size;
  };
  struct Slot {
    uint32_t tag;
    TokenId id;
  };

  size_t slot_of(std::string_view token, uint32_t tag) const;  // where the token is, or the free slot where it would be
  void grow(size_t slots);
  bool is_whole() const;

  HashKeys keys_ = HashKeys::draw();
  std::string bytes_;  // the texts of all tokens, one after the other
  std::vector<Place> places_;
  std::vector<Slot> slots_;  // a power of two, at least half of them free
  size_t size_ = 0;
};

uint64_t hash_bytes(const HashKeys& keys, std::string_view bytes);
uint64_t hash_word(const HashKeys& keys, uint64_t word);

template <class Value>
void keep_values(KeptFileWriter& file, const std::string& name, std::span<const Value> values) {
  file.add(name, std::as_bytes(values), KeptFileWriter::Piece::checked);
}

// The values of a piece; nothing if there is none, or it has a part of one.
template <class Value>
std::optional<std::vector<Value>> kept_values(const KeptFile& file, const std::string& name) {
  const auto piece = file.find(name);
  if (!piece || piece->size() % sizeof(Value) != 0) return std::nullopt;
  const auto* const first = reinterpret_cast<const Value*>(piece->data());  // a piece is aligned if its file is
  return std::vector<Value>(first, first + piece->size() / sizeof(Value));
}

}  // namespace tessera::text

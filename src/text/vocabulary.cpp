#include "text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>

namespace tessera::text {
namespace {

uint64_t fold(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

struct Keys {
  uint64_t first, second;
};

const Keys& keys() {
  static const Keys keys = [] {
    std::random_device device;
    const auto draw = [&] { return (static_cast<uint64_t>(device()) << 32 | device()) | 1; };
    return Keys{draw(), draw()};
  }();
  return keys;
}

uint64_t load(const char* bytes, size_t count) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, count);
  return word;
}

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
  const Keys& key = keys();
  uint64_t hash = key.first ^ bytes.size();
  while (bytes.size() > 8) {
    hash = fold(hash ^ load(bytes.data(), 8), key.second);
    bytes.remove_prefix(8);
  }
  return fold(hash ^ load(bytes.data(), bytes.size()), key.second);
}

uint64_t hash_word(uint64_t word) { return fold(word ^ keys().first, keys().second); }

void Vocabulary::reserve(size_t tokens) {
  places_.reserve(tokens);
  if (slots_.size() < 2 * tokens) grow(std::bit_ceil(2 * tokens));
}

size_t Vocabulary::slot_of(std::string_view token, uint32_t tag) const {
  for (size_t slot = tag & (slots_.size() - 1);; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& entry = slots_[slot];
    if (entry.id == kNoToken || (entry.tag == tag && this->token(entry.id) == token)) return slot;
  }
}

void Vocabulary::grow(size_t slots) {
  std::vector<Slot> old(slots, Slot{0, kNoToken});
  old.swap(slots_);
  for (const Slot& entry : old) {
    if (entry.id == kNoToken) continue;
    size_t slot = entry.tag & (slots - 1);
    while (slots_[slot].id != kNoToken) slot = (slot + 1) & (slots - 1);
    slots_[slot] = entry;
  }
}

Vocabulary::Added Vocabulary::add(std::string_view token, TokenId id) {
  if (has(id)) return Added::id_taken;
  if (slots_.size() < 2 * (size_ + 1)) grow(std::max<size_t>(16, 2 * slots_.size()));
  const auto tag = static_cast<uint32_t>(hash_bytes(token));
  Slot& slot = slots_[slot_of(token, tag)];
  if (slot.id != kNoToken) return Added::text_taken;
  if (id >= end_id()) places_.resize(static_cast<size_t>(id) + 1, Place{kGap, 0});
  slot = {tag, id};
  places_[id] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size())};
  bytes_ += token;
  ++size_;
  return Added::ok;
}

TokenId Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return kNoToken;
  return slots_[slot_of(token, static_cast<uint32_t>(hash_bytes(token)))].id;
}

}  // namespace tessera::text

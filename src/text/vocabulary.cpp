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

uint64_t load(const char* bytes, size_t count) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, count);
  return word;
}

}  // namespace

HashKeys HashKeys::draw() {
  std::random_device device;
  const auto draw = [&] { return (static_cast<uint64_t>(device()) << 32 | device()) | 1; };
  return {draw(), draw()};
}

uint64_t hash_bytes(const HashKeys& keys, std::string_view bytes) {
  uint64_t hash = keys.first ^ bytes.size();
  while (bytes.size() > 8) {
    hash = fold(hash ^ load(bytes.data(), 8), keys.second);
    bytes.remove_prefix(8);
  }
  return fold(hash ^ load(bytes.data(), bytes.size()), keys.second);
}

uint64_t hash_word(const HashKeys& keys, uint64_t word) { return fold(word ^ keys.first, keys.second); }

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

bool Vocabulary::add(std::string_view token, TokenId id) {
  if (has(id)) return false;
  if (slots_.size() < 2 * (size_ + 1)) grow(std::max<size_t>(16, 2 * slots_.size()));
  const auto tag = static_cast<uint32_t>(hash_bytes(keys_, token));
  if (id >= end_id()) places_.resize(static_cast<size_t>(id) + 1, Place{kGap, 0});
  slots_[slot_of(token, tag)] = {tag, id};
  places_[id] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(token.size())};
  bytes_ += token;
  ++size_;
  return true;
}

TokenId Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return kNoToken;
  return slots_[slot_of(token, static_cast<uint32_t>(hash_bytes(keys_, token)))].id;
}

void Vocabulary::keep(KeptFileWriter& file) const {
  keep_values(file, "vocabulary keys", std::span(&keys_, 1));
  keep_values(file, "vocabulary bytes", std::span<const char>(bytes_));
  keep_values(file, "vocabulary places", std::span<const Place>(places_));
  keep_values(file, "vocabulary slots", std::span<const Slot>(slots_));
}

std::optional<Vocabulary> Vocabulary::restore(const KeptFile& file) {
  const auto keys = kept_values<HashKeys>(file, "vocabulary keys");
  const auto bytes = file.find("vocabulary bytes");
  auto places = kept_values<Place>(file, "vocabulary places");
  auto slots = kept_values<Slot>(file, "vocabulary slots");
  if (!keys || keys->size() != 1 || !bytes || !places || !slots) return std::nullopt;
  Vocabulary vocabulary;
  vocabulary.keys_ = keys->front();
  vocabulary.bytes_.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  vocabulary.places_ = std::move(*places);
  vocabulary.slots_ = std::move(*slots);
  for (const Place& place : vocabulary.places_) vocabulary.size_ += place.begin != kGap;
  return vocabulary.is_whole() ? std::optional(std::move(vocabulary)) : std::nullopt;
}

// Whether every place and slot leads to where it may: then no text can do harm.
bool Vocabulary::is_whole() const {
  if (places_.size() > static_cast<size_t>(kLargestId) + 1 || !std::has_single_bit(slots_.size()) || slots_.size() < 2 * size_)
    return false;
  const bool in_bytes = std::all_of(places_.begin(), places_.end(), [&](const Place& place) {
    return place.begin == kGap || (place.begin <= bytes_.size() && place.size <= bytes_.size() - place.begin);
  });
  const auto used = static_cast<size_t>(std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.id != kNoToken; }));
  return in_bytes && used == size_ &&
         std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.id == kNoToken || has(slot.id); });
}

}  // namespace tessera::text

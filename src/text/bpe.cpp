#include "text/bpe.h"

#include <algorithm>
#include <bit>

#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr uint32_t kNone = UINT32_MAX;
constexpr char32_t kShortCharacters = 0x800;

bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); }

bool is_malformed_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.ends_with('>') && !(is_hex_digit(token[3]) && is_hex_digit(token[4]));
}

bool is_forbidden(const std::vector<bool>& forbidden, TokenId id) { return static_cast<size_t>(id) < forbidden.size() && forbidden[id]; }

// The lowest rank first, and of equal ranks the leftmost: std heaps keep the largest on top.
bool comes_later(const Bpe::Workspace::Candidate& a, const Bpe::Workspace::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

void MergeTable::reserve(size_t merges) { slots_.assign(std::bit_ceil(2 * merges + 1), Slot{kFree, {}}); }

size_t MergeTable::slot_of(uint64_t pair) const {
  size_t slot = hash_word(keys_, pair) & (slots_.size() - 1);
  while (slots_[slot].pair != pair && slots_[slot].pair != kFree) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

void MergeTable::set(TokenId left, TokenId right, Merge merge) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  slots_[slot_of(pair)] = {pair, merge};
}

const MergeTable::Merge* MergeTable::find(TokenId left, TokenId right) const {
  const Slot& slot = slots_[slot_of(static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right))];
  return slot.pair == kFree ? nullptr : &slot.merge;
}

void MergeTable::keep(KeptFileWriter& file) const {
  keep_values(file, "merge keys", std::span(&keys_, 1));
  keep_values(file, "merges", std::span<const Slot>(slots_));
}

std::optional<MergeTable> MergeTable::restore(const KeptFile& file, const Vocabulary& vocabulary) {
  const auto keys = kept_values<HashKeys>(file, "merge keys");
  auto slots = kept_values<Slot>(file, "merges");
  if (!keys || keys->size() != 1 || !slots || !std::has_single_bit(slots->size())) return std::nullopt;
  size_t used = 0;
  for (const Slot& slot : *slots) {
    used += slot.pair != kFree;
    if (slot.pair != kFree && !vocabulary.has(slot.merge.joined)) return std::nullopt;
  }
  if (2 * used > slots->size()) return std::nullopt;
  MergeTable table;
  table.keys_ = keys->front();
  table.slots_ = std::move(*slots);
  return table;
}

Bpe::Bpe(const Fields& model) {
  read_options(model);
  read_vocabulary(model);
  read_merges(model);
  read_tokens(model);
}

std::optional<Bpe> Bpe::restore(const Fields& model, const KeptFile& file) {
  auto vocabulary = Vocabulary::restore(file);
  auto merges = vocabulary ? MergeTable::restore(file, *vocabulary) : std::nullopt;
  if (!merges) return std::nullopt;
  Bpe bpe;
  bpe.read_options(model);
  bpe.vocabulary_ = std::move(*vocabulary);
  bpe.merges_ = std::move(*merges);
  bpe.read_tokens(model);
  return bpe;
}

void Bpe::keep(KeptFileWriter& file) const {
  vocabulary_.keep(file);
  merges_.keep(file);
}

void Bpe::read_options(const Fields& model) {
  const std::string_view type = model.find("type") ? model.text("type") : "BPE";  // old files leave it out
  if (type != "BPE") model.refuse("type", "the model ", quoted(type), " is not supported; BPE is");
  model.allow({"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
               "vocab", "merges"});
  if (const auto dropout = model.find("dropout"); dropout && !(dropout->is_number() && double{*dropout} == 0))
    model.refuse("dropout", "random merges are not supported: must be null or 0");
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (model.find(key) && !model.text(key).empty()) model.refuse(key, quoted(model.text(key)), " is not supported: must be null or empty");
  fuse_unknown_ = model.flag("fuse_unk", false);
  ignore_merges_ = model.flag("ignore_merges", false);
}

void Bpe::read_tokens(const Fields& model) {
  short_characters_.resize(kShortCharacters);
  for (char32_t c = 0; c < kShortCharacters; ++c) short_characters_[c] = vocabulary_.find(to_utf8(c));
  if (model.flag("byte_fallback", false)) read_bytes(model);
  if (model.find("unk_token")) {
    unknown_ = vocabulary_.find(model.text("unk_token"));
    if (unknown_ == kNoToken) model.refuse("unk_token", quoted(model.text("unk_token")), " is not in the vocabulary");
  }
}

// Messages are made on failure only here: there are hundreds of thousands of tokens.
void Bpe::read_vocabulary(const Fields& model) {
  const auto tokens = json_as<JsonObject>(model.at("vocab"));
  if (!tokens) model.refuse("vocab", "must be an object");
  if (tokens->size() > Vocabulary::kLargestId) model.refuse("vocab", "has more than ", Vocabulary::kLargestId, " tokens");
  vocabulary_.reserve(tokens->size());
  for (const auto [token, value] : *tokens) {
    const auto refuse_token = [&](const auto&... parts) { model.refuse("vocab", "the token ", quoted(token), parts...); };
    if (token.size() > Vocabulary::kLongestToken)
      refuse_token(" has ", token.size(), " bytes; at most ", Vocabulary::kLongestToken, " are supported");
    const int64_t id = json_as<int64_t>(value).value_or(-1);
    if (id < 0 || id > Vocabulary::kLargestId) refuse_token(" must have an integer of 0 to ", Vocabulary::kLargestId, " as its id");
    if (!vocabulary_.add(token, static_cast<TokenId>(id)))
      refuse_token(" has the id ", id, ", as has ", quoted(vocabulary_.token(static_cast<TokenId>(id))));
  }
}

void Bpe::read_merges(const Fields& model) {
  const JsonArray merges = model.array("merges", kMostMerges);
  merges_.reserve(merges.size());
  size_t index = 0;
  const auto refuse_merge = [&](const auto&... parts) { model.refuse(message("merges[", index, "]"), parts...); };
  const auto id_of = [&](std::string_view token) {
    const TokenId id = vocabulary_.find(token);
    if (id == kNoToken) refuse_merge(quoted(token), " is not in the vocabulary");
    return id;
  };
  bool are_texts = false;  // "left right", else ["left", "right"]
  uint32_t rank = 0;
  std::string joined;
  TokenId joined_id = 0;
  for (const JsonValue element : merges) {
    std::string_view left, right;
    if (index == 0) are_texts = element.is_string();
    if (are_texts) {
      const auto line = json_as<std::string_view>(element);
      if (!line) refuse_merge("must be a text, as the one before it");
      const size_t space = line->find(' ');
      left = line->substr(0, space);
      right = space == std::string_view::npos ? "" : line->substr(space + 1);
      if (space == std::string_view::npos || right.find(' ') != std::string_view::npos)
        refuse_merge(quoted(*line), " is not two tokens with one space between them");
    } else {
      simdjson::dom::array pair;
      if (element.get(pair) != simdjson::SUCCESS || pair.size() != 2 || pair.at(0).get(left) != simdjson::SUCCESS ||
          pair.at(1).get(right) != simdjson::SUCCESS)
        refuse_merge("must be two texts in an array");
    }
    joined.assign(left).append(right);
    const TokenId left_id = id_of(left), right_id = id_of(right);
    // Merges mostly come in the order of the tokens that they make: the last one or the next is a good guess, and cheaper than a search.
    if (!vocabulary_.is(joined_id, joined) && !vocabulary_.is(++joined_id, joined)) joined_id = id_of(joined);
    merges_.set(left_id, right_id, {rank++, joined_id});
    ++index;
  }
}

void Bpe::read_bytes(const Fields& model) {
  for (TokenId id = 0; id < vocabulary_.end_id(); ++id) {
    if (!vocabulary_.has(id) || !is_malformed_byte_token(vocabulary_.token(id))) continue;
    model.refuse("vocab", "the byte token ", quoted(vocabulary_.token(id)), " must have two hexadecimal digits");
  }
  byte_tokens_.emplace();
  for (size_t byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    (*byte_tokens_)[byte] = vocabulary_.find(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + '>');
  }
}

TokenId Bpe::find_character(std::string_view character) const {
  if (character.size() > 2) return vocabulary_.find(character);
  return short_characters_[first_character(character).code_point];
}

void Bpe::add_symbols(std::string_view word, const std::vector<bool>& forbidden, std::vector<Workspace::Symbol>& symbols) const {
  const auto add = [&](TokenId id) {
    const auto index = static_cast<uint32_t>(symbols.size());
    if (index > 0) symbols.back().next = index;
    symbols.push_back({id, index > 0 ? index - 1 : kNone, kNone, false});
  };
  bool is_unknown_pending = false;
  for (size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, utf8_length(word[at]));
    at += character.size();
    const TokenId id = find_character(character);
    if (id != kNoToken && !is_forbidden(forbidden, id)) {
      if (is_unknown_pending) add(unknown_);
      is_unknown_pending = false;
      add(id);
      continue;
    }
    if (byte_tokens_) {
      const auto token_of = [&](char byte) { return (*byte_tokens_)[static_cast<unsigned char>(byte)]; };
      if (std::all_of(character.begin(), character.end(), [&](char byte) { return token_of(byte) != kNoToken; })) {
        for (const char byte : character) add(token_of(byte));
        continue;  // a pending unknown token stays pending, and so comes after these, as in the `tokenizers` library
      }
    }
    if (unknown_ == kNoToken) continue;
    if (is_unknown_pending && !fuse_unknown_) add(unknown_);
    is_unknown_pending = true;
  }
  if (is_unknown_pending) add(unknown_);
}

void Bpe::merge(const std::vector<bool>& forbidden, Workspace& workspace) const {
  auto& symbols = workspace.symbols;
  auto& candidates = workspace.candidates;
  candidates.clear();
  const auto merge_at = [&](uint32_t position) -> const MergeTable::Merge* {
    const uint32_t next = symbols[position].next;
    if (next == kNone) return nullptr;
    const MergeTable::Merge* merge = merges_.find(symbols[position].id, symbols[next].id);
    return merge && is_forbidden(forbidden, merge->joined) ? nullptr : merge;
  };
  const auto propose = [&](uint32_t position) {
    const MergeTable::Merge* merge = merge_at(position);
    if (merge) candidates.push_back({merge->rank, position, merge->joined});
    return merge != nullptr;
  };
  for (uint32_t position = 0; position + 1 < symbols.size(); ++position) propose(position);
  std::make_heap(candidates.begin(), candidates.end(), comes_later);
  while (!candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), comes_later);
    const Workspace::Candidate best = candidates.back();
    candidates.pop_back();
    Workspace::Symbol& symbol = symbols[best.position];
    if (symbol.is_merged) continue;
    const MergeTable::Merge* merge = merge_at(best.position);
    if (!merge || merge->joined != best.joined) continue;  // one of the two has been merged with another meanwhile
    symbol.id = best.joined;
    symbols[symbol.next].is_merged = true;
    symbol.next = symbols[symbol.next].next;
    if (symbol.next != kNone) symbols[symbol.next].previous = best.position;
    if (symbol.previous != kNone && propose(symbol.previous)) std::push_heap(candidates.begin(), candidates.end(), comes_later);
    if (propose(best.position)) std::push_heap(candidates.begin(), candidates.end(), comes_later);
  }
}

void Bpe::encode(std::string_view word, const std::vector<bool>& forbidden, Workspace& workspace, std::vector<TokenId>& ids) const {
  if (ignore_merges_) {
    const TokenId id = vocabulary_.find(word);
    if (id != kNoToken && !is_forbidden(forbidden, id)) return ids.push_back(id);
  }
  workspace.symbols.clear();
  add_symbols(word, forbidden, workspace.symbols);
  merge(forbidden, workspace);
  for (const auto& symbol : workspace.symbols)
    if (!symbol.is_merged) ids.push_back(symbol.id);
}

}  // namespace tessera::text

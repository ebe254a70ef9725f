#include "generate/saved_sequence.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr std::string_view kFormat = "tessera sequence 1";
constexpr size_t kMostText = size_t{256} << 20;  // of a piece that is JSON

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string_view text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// Each page that holds a cached token: take(group, its place in the table, the tokens in it).
template <class Take>
void each_page(int64_t length, int64_t page_tokens, std::span<const int64_t> first_pages, const Take& take) {
  for (size_t group = 0; group < first_pages.size(); ++group)
    for (int64_t page = first_pages[group]; page * page_tokens < length; ++page)
      take(group, page - first_pages[group], std::min(page_tokens, length - page * page_tokens));
}

std::vector<int64_t> first_pages_of(const Sequence& sequence, const Cache& cache) {
  std::vector<int64_t> first_pages;
  for (size_t group = 0; group < cache.groups(); ++group) first_pages.push_back(sequence.table(group).first);
  return first_pages;
}

std::string page_name(size_t group, int64_t place) { return message("page ", group, ' ', place); }

PagesIdentity whole_identity(const Device& device, const Cache& cache, PagesIdentity identity) {
  identity.emplace_back("cache", message(cache.options().dtype));
  identity.emplace_back("device", message(device.name(), ", ", device.page_layout()));
  return identity;
}

}  // namespace

size_t saved_page_bytes(const Device& device, const Sequence& sequence, const Cache& cache) {
  size_t bytes = 0;
  each_page(sequence.length(), cache.page_tokens(), first_pages_of(sequence, cache),
            [&](size_t group, int64_t, int64_t) { bytes += device.page_bytes(sequence.cache(), group); });
  return bytes;
}

void save_sequence(const std::string& path, std::string_view about, const Device& device, const Sequence& sequence, const Cache& cache,
                   const PagesIdentity& identity, SavedPages pages) {
  const int64_t length = pages == SavedPages::all ? sequence.length() : 0;
  const std::vector<int64_t> first_pages = first_pages_of(sequence, cache);
  const std::string text = nlohmann::json{{"tokens", sequence.tokens},
                                          {"length", length},
                                          {"rope_length", sequence.rope_length()},
                                          {"first_pages", first_pages},
                                          {"identity", whole_identity(device, cache, identity)}}
                               .dump();
  KeptFileWriter file(path, std::string(kFormat));
  file.add("about", bytes_of(about), KeptFileWriter::Piece::checked);
  file.add("sequence", bytes_of(text), KeptFileWriter::Piece::checked);
  std::vector<std::byte> bytes;
  each_page(length, cache.page_tokens(), first_pages, [&](size_t group, int64_t place, int64_t tokens) {
    bytes.resize(device.page_bytes(sequence.cache(), group));
    device.read_page(sequence.cache(), group, sequence.table(group).pages[static_cast<size_t>(place)], tokens, bytes);
    file.add(page_name(group, place), bytes, KeptFileWriter::Piece::checked);
  });
  file.finish();
}

SavedSequence::SavedSequence(const std::string& path) : file_(std::make_unique<const MappedFile>(path)) {
  const auto expect = [&](bool ok) {
    check<FileError>(ok, path, ": is not a saved sequence of this version's, or was cut or damaged; name another file, or delete it");
  };
  found_ = KeptFile::read(file_->bytes(), kFormat);
  expect(found_.has_value());
  const auto about = found_->find("about"), sequence = found_->find("sequence");
  expect(about && sequence);
  about_ = text_of(*about);
  const JsonDocument document = parse_json(text_of(*sequence), path, {.max_bytes = kMostText});
  const JsonValue root = document.root();
  const auto tokens = json_as<JsonArray>(root["tokens"]), first_pages = json_as<JsonArray>(root["first_pages"]),
             identity = json_as<JsonArray>(root["identity"]);
  const auto length = json_as<int64_t>(root["length"]), rope_length = json_as<int64_t>(root["rope_length"]);
  expect(tokens && first_pages && identity && length && rope_length);
  for (const JsonValue token : *tokens) {
    const auto id = json_as<int64_t>(token);
    expect(id && *id >= 0 && *id <= std::numeric_limits<TokenId>::max());
    tokens_.push_back(static_cast<TokenId>(*id));
  }
  for (const JsonValue page : *first_pages) {
    const auto first = json_as<int64_t>(page);
    expect(first && *first >= 0 && *first <= static_cast<int64_t>(tokens_.size()));
    first_pages_.push_back(*first);
  }
  for (const JsonValue part : *identity) {
    const auto pair = json_as<JsonArray>(part);
    expect(pair && pair->size() == 2);
    const auto name = json_as<std::string_view>(pair->at(0)), value = json_as<std::string_view>(pair->at(1));
    expect(name && value);
    identity_.emplace_back(*name, *value);
  }
  length_ = *length;
  rope_length_ = *rope_length;
  expect(length_ >= 0 && length_ <= static_cast<int64_t>(tokens_.size()) && (length_ == 0 || rope_length_ >= length_));
  file_->expect_unchanged();
}

std::string SavedSequence::why_not(const PagesIdentity& now) const {
  for (const auto& [name, value] : now) {
    const auto then = std::find_if(identity_.begin(), identity_.end(), [&](const auto& part) { return part.first == name; });
    const std::string_view made = then == identity_.end() ? "" : std::string_view(then->second);
    if (made != value) return message("were made otherwise: ", name, ' ', printable(made), ", now ", printable(value));
  }
  return length_ == 0 ? "are not in the file" : "";
}

std::string SavedSequence::restore(Device& device, Cache& cache, Sequence& sequence, const PagesIdentity& identity) const {
  check(sequence.tokens.empty() && sequence.length() == 0, "saved sequence: it is to go into one of ", sequence.tokens.size(), " tokens");
  if (std::string why = why_not(whole_identity(device, cache, identity)); !why.empty()) return why;
  sequence.tokens = tokens_;
  std::string why;
  try {
    cache.restore(sequence, length_, rope_length_, first_pages_);
    each_page(length_, cache.page_tokens(), first_pages_, [&](size_t group, int64_t place, int64_t) {
      const auto bytes = found_->find(page_name(group, place));
      check(bytes && bytes->size() == device.page_bytes(sequence.cache(), group), "are damaged");
      device.write_page(sequence.cache(), group, sequence.table(group).pages[static_cast<size_t>(place)], *bytes);
    });
    file_->expect_unchanged();
    return "";
  } catch (const ResourceError&) {
    why = message("do not fit the context: they are of ", length_, " tokens");
  } catch (const std::invalid_argument&) {  // of one piece, or of what the pages are said to hold
    why = "are damaged";
  }
  cache.truncate(sequence, 0);
  return why;
}

}  // namespace tessera

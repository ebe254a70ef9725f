#include "server/api_keys.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace tessera::server {
namespace {

constexpr size_t kMostKeys = 1000, kMostBytes = 512;

// Takes as long for every key of a length.
bool is_same(std::string_view key, std::string_view given) {
  size_t difference = key.size() ^ given.size();
  for (size_t i = 0; i < given.size(); ++i) difference |= static_cast<unsigned char>(given[i] ^ key[i % key.size()]);
  volatile size_t told = difference;
  return told == 0;
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

}  // namespace

void ApiKeys::add(std::string name, std::string key) {
  check(!key.empty() && key.size() <= kMostBytes && is_printable(key), "the key ", name, " must be of 1 to ", kMostBytes,
        " printable ASCII characters without blanks");
  check(!name.empty() && name.size() <= kMostBytes && is_printable(name), "a key's name must be of 1 to ", kMostBytes,
        " printable ASCII characters without blanks");
  check(keys_.size() < kMostKeys, "there are more than ", kMostKeys, " keys");
  for (const auto& [other, known] : keys_) check(other != name && known != key, "the key ", name, " is there already");
  keys_.emplace_back(std::move(name), std::move(key));
}

ApiKeys ApiKeys::of(std::string key) {
  ApiKeys keys;
  keys.add("key", std::move(key));
  return keys;
}

ApiKeys ApiKeys::from_file(const std::string& path) {
  std::ifstream file(path);
  check<FileError>(file.is_open(), path, ": the file of keys cannot be read");
  ApiKeys keys;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    const size_t colon = line.find(':');
    const bool named = colon != std::string::npos;
    try {
      keys.add(named ? line.substr(0, colon) : message("key", number), named ? line.substr(colon + 1) : line);
    } catch (const std::invalid_argument& error) {
      fail<FileError>(path, ": line ", number, ": ", error.what());
    }
  }
  check<FileError>(!file.bad(), path, ": the file of keys cannot be read");
  check<FileError>(!keys.empty(), path, ": holds no key; give a line NAME:KEY for each");
  return keys;
}

std::optional<std::string> ApiKeys::find(std::string_view given) const {
  if (given.empty() || given.size() > kMostBytes) return std::nullopt;
  std::optional<std::string> found;
  for (const auto& [name, key] : keys_)
    if (is_same(key, given)) found = name;
  return found;
}

std::optional<std::string> ApiKeys::name_of(std::string_view authorization, std::string_view x_api_key) const {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.empty()) return find(x_api_key);
  const bool is_bearer = authorization.size() > kScheme.size() &&
                         std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                                    [](char lower, char c) { return lower == (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c); });
  if (!is_bearer) return std::nullopt;
  const std::optional<std::string> name = find(authorization.substr(kScheme.size()));
  return x_api_key.empty() || find(x_api_key) == name ? name : std::nullopt;
}

}  // namespace tessera::server

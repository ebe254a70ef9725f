#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera::server {

// The keys that a server takes, each with a name for its log.
class ApiKeys {
 public:
  ApiKeys() = default;
  // A file of lines NAME:KEY or KEY; empty ones and those that begin with # are passed over. Throws FileError, which shows no key.
  static ApiKeys from_file(const std::string& path);
  // One key, whose name is "key".
  static ApiKeys of(std::string key);

  // Throws std::invalid_argument for a key that is empty, too long, or there already; for a name that is there, or no name.
  void add(std::string name, std::string key);

  // The name of the key that `authorization` ("Bearer KEY") or `x_api_key` gives, where they agree if both are given. How long it takes
  // tells nothing of where a wrong one differs.
  std::optional<std::string> name_of(std::string_view authorization, std::string_view x_api_key) const;
  bool empty() const { return keys_.empty(); }
  size_t size() const { return keys_.size(); }

 private:
  std::optional<std::string> find(std::string_view key) const;

  std::vector<std::pair<std::string, std::string>> keys_;  // name, key
};

}  // namespace tessera::server

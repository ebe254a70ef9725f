#pragma once
// Strict JSON for foreign files: UTF-8 only and no byte-order mark, duplicate keys and deep nesting refused, integers kept apart from
// floats.
#include <cstddef>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace tessera {

using Json = nlohmann::json;

struct JsonLimits {
  size_t max_bytes = size_t{16} << 20;
  int max_depth = 64;
};

// A parsed file. Unlike a plain Json with members, it can be destroyed when memory is exhausted; don't copy its root.
class JsonDocument {
 public:
  JsonDocument(JsonDocument&& other) noexcept : root_(std::move(other.root_)) {}
  JsonDocument& operator=(JsonDocument&&) = delete;
  ~JsonDocument();

  const Json& root() const { return root_; }

 private:
  friend JsonDocument parse_json(std::string_view text, const std::string& source, const JsonLimits& limits);
  JsonDocument() = default;
  Json root_;
};

// Parses `text`; `source` (a file's name) begins every message. Throws FileError with the byte offset or the duplicate key.
JsonDocument parse_json(std::string_view text, const std::string& source, const JsonLimits& limits = {});

// Reads and parses a regular file. Throws FileError when it is absent, not a regular file, larger than limits.max_bytes or not JSON.
JsonDocument read_json(const std::string& path, const JsonLimits& limits = {});

// Text from a foreign file as it may stand in a message: in quotes, escaped to printable ASCII, at most 100 bytes of it. Works only when
// it is streamed, and borrows the text until then.
struct Printable {
  std::string_view text;
};
inline Printable printable(std::string_view text) { return {text}; }
std::ostream& operator<<(std::ostream& out, const Printable& printable);

// A regular file's bytes, at most max_bytes. Throws FileError.
std::string read_file(const std::string& path, size_t max_bytes);

// Whether anything has this name; also true of a link that leads nowhere, so that opening it says why.
bool is_there(const std::string& path);

}  // namespace tessera

#pragma once
// Strict JSON for foreign files, read by simdjson: UTF-8 only and no byte-order mark, duplicate keys and deep nesting refused, integers
// kept apart from floats. What is written is written by nlohmann's library.
#include <simdjson.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

namespace tessera {

using JsonValue = simdjson::dom::element;
using JsonObject = simdjson::dom::object;  // in the order of the file
using JsonArray = simdjson::dom::array;

// A value, or what a look-up found, as a T: JsonObject, JsonArray, std::string_view, int64_t, uint64_t, double (of an integer too) or bool.
// nullopt when it is of another type or does not fit.
template <class T, class Found>
std::optional<T> json_as(const Found& found) {
  T value{};
  return found.get(value) == simdjson::SUCCESS ? std::optional(value) : std::nullopt;
}

struct JsonLimits {
  size_t max_bytes = size_t{16} << 20;
  size_t max_depth = 64;
};

// A parsed file, which owns what its values show.
class JsonDocument {
 public:
  JsonValue root() const { return document_->root(); }

 private:
  friend JsonDocument parse_json(std::string_view text, const std::string& source, const JsonLimits& limits);
  std::unique_ptr<simdjson::dom::document> document_ = std::make_unique<simdjson::dom::document>();
};

// Parses `text`; `source` (a file's name) begins every message. An integer beyond 64 bits is a float, and so is -0. Throws FileError,
// naming a duplicate key and its place, and ResourceError when memory is exhausted.
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

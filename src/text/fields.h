#pragma once
// The fields of one JSON object of a tokenizer.json, read strictly: a field that is missing, unknown or of another type than asked for is a
// FileError that names the file and the field's path.
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/json.h"

namespace tessera::text {

class Fields {
 public:
  // `path` names the value in messages ("dir/tokenizer.json: decoder"), `joint` stands between it and a field's name. The JSON's memory
  // must outlive this.
  Fields(JsonValue value, std::string path, std::string_view joint = ".");

  // Refuses every field but these (and "type").
  void allow(std::initializer_list<std::string_view> keys) const;

  // The value, or nothing where the field is absent or null.
  std::optional<JsonValue> find(std::string_view key) const;
  // The value of a field that must be there and not null.
  JsonValue at(std::string_view key) const;

  std::string_view text(std::string_view key) const;
  std::string_view text(std::string_view key, size_t longest) const;  // of at most that many bytes
  bool flag(std::string_view key) const;
  bool flag(std::string_view key, bool if_absent) const;
  int64_t integer(std::string_view key, int64_t least, int64_t most) const;
  char32_t character(std::string_view key) const;  // a text of exactly one character
  Fields object(std::string_view key) const { return Fields(at(key), path_of(key)); }
  JsonArray array(std::string_view key, size_t most) const;  // of at most that many elements
  // An array of at most `most` objects, one after the other.
  void each_object(std::string_view key, size_t most, const std::function<void(const Fields&)>& use) const;

  std::string path_of(std::string_view key) const;
  template <class... Parts>
  [[noreturn]] void refuse(std::string_view key, const Parts&... parts) const {
    fail<FileError>(path_of(key), ": ", parts...);
  }

 private:
  JsonObject object_;
  std::string path_;
  std::string_view joint_;
};

// The text of a JSON string; refused when it is another type.
std::string_view text_of(JsonValue value, std::string_view path);
// An integer within [least, most].
int64_t integer_of(JsonValue value, int64_t least, int64_t most, std::string_view path);
// The longest literal text that a part of a tokenizer may have, in bytes; real ones have a few.
inline constexpr size_t kLongestLiteral = 1024;

// At most 80 bytes of a foreign text, control characters escaped, for use in a message.
std::string quoted(std::string_view text);

}  // namespace tessera::text

#include "text/fields.h"

#include <algorithm>

#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr size_t kMostFields = 64;

}  // namespace

std::string quoted(std::string_view text) {
  constexpr size_t kShown = 80;
  std::string out = "\"";
  std::string shown;
  append_lossy_utf8(shown, text.substr(0, kShown), Cut::keep);
  for (const char c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr char kHex[] = "0123456789abcdef";
      (out += "\\x") += {kHex[c >> 4], kHex[c & 15]};
    } else {
      out += c;
    }
  }
  return out + (text.size() > kShown ? "...\"" : "\"");
}

std::string_view text_of(JsonValue value, std::string_view path) {
  std::string_view text;
  check<FileError>(value.get(text) == simdjson::SUCCESS, path, ": must be a text");
  check<FileError>(find_invalid_utf8(text) == std::string_view::npos, path, ": holds half of a surrogate pair, which is no character");
  return text;
}

int64_t integer_of(JsonValue value, int64_t least, int64_t most, std::string_view path) {
  int64_t integer = 0;
  check<FileError>(value.get(integer) == simdjson::SUCCESS && integer >= least && integer <= most, path, ": ",
                   value.is_number() ? "is " + std::string(simdjson::minify(value)) : std::string("is no number"),
                   "; must be an integer of ", least, " to ", most);
  return integer;
}

Fields::Fields(JsonValue value, std::string path, std::string_view joint) : path_(std::move(path)), joint_(joint) {
  simdjson::dom::object object;
  check<FileError>(value.get(object) == simdjson::SUCCESS, path_, ": must be an object");
  check<FileError>(object.size() <= kMostFields, path_, ": has more than ", kMostFields, " fields");
  for (const auto field : object) {
    const bool is_new = std::none_of(fields_.begin(), fields_.end(), [&](const auto& other) { return other.first == field.key; });
    check<FileError>(is_new, path_, ": the field ", quoted(field.key), " stands twice");
    fields_.emplace_back(field.key, field.value);
  }
}

void Fields::allow(std::initializer_list<std::string_view> keys) const {
  for (const auto& [key, value] : fields_)
    check<FileError>(key == "type" || std::find(keys.begin(), keys.end(), key) != keys.end(), path_, ": the field ", quoted(key),
                     " is not known");
}

std::optional<JsonValue> Fields::find(std::string_view key) const {
  for (const auto& [name, value] : fields_)
    if (name == key && !value.is_null()) return value;
  return std::nullopt;
}

JsonValue Fields::at(std::string_view key) const {
  const std::optional<JsonValue> value = find(key);
  check<FileError>(value.has_value(), path_of(key), ": is missing");
  return *value;
}

std::string_view Fields::text(std::string_view key) const { return text_of(at(key), path_of(key)); }

std::string_view Fields::text(std::string_view key, size_t longest) const {
  const std::string_view value = text(key);
  check<FileError>(value.size() <= longest, path_of(key), ": has ", value.size(), " bytes; at most ", longest, " are supported");
  return value;
}

bool Fields::flag(std::string_view key) const {
  bool flag = false;
  check<FileError>(at(key).get(flag) == simdjson::SUCCESS, path_of(key), ": must be true or false");
  return flag;
}

bool Fields::flag(std::string_view key, bool if_absent) const { return find(key) ? flag(key) : if_absent; }

int64_t Fields::integer(std::string_view key, int64_t least, int64_t most) const { return integer_of(at(key), least, most, path_of(key)); }

char32_t Fields::character(std::string_view key) const {
  const std::string_view value = text(key);
  check<FileError>(!value.empty() && utf8_length(value[0]) == value.size(), path_of(key), ": is ", quoted(value),
                   "; must be one character");
  return first_character(value).code_point;
}

void Fields::each_object(std::string_view key, size_t most, const std::function<void(const Fields&)>& use) const {
  simdjson::dom::array array;
  check<FileError>(at(key).get(array) == simdjson::SUCCESS, path_of(key), ": must be an array");
  check<FileError>(array.size() <= most, path_of(key), ": has more than ", most, " elements");
  size_t index = 0;
  for (const JsonValue element : array) use(Fields(element, path_of(key) + "[" + std::to_string(index++) + "]"));
}

// (Without a stream: it is called for every field of thousands of tokens.)
std::string Fields::path_of(std::string_view key) const { return ((path_ + std::string(joint_)) += key); }

}  // namespace tessera::text

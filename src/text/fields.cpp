#include "text/fields.h"

#include <algorithm>

#include "text/utf8.h"

namespace tessera::text {

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
  const auto text = json_as<std::string_view>(value);
  check<FileError>(text.has_value(), path, ": must be a text");
  return *text;
}

int64_t integer_of(JsonValue value, int64_t least, int64_t most, std::string_view path) {
  const auto integer = json_as<int64_t>(value);
  if (!integer || *integer < least || *integer > most)
    fail<FileError>(path, ": ", value.is_number() ? "is " + simdjson::minify(value) : "is no number", "; must be an integer of ", least,
                    " to ", most);
  return *integer;
}

Fields::Fields(JsonValue value, std::string path, std::string_view joint) : path_(std::move(path)), joint_(joint) {
  check<FileError>(value.get(object_) == simdjson::SUCCESS, path_, ": must be an object");
}

void Fields::allow(std::initializer_list<std::string_view> keys) const {
  for (const auto field : object_)
    check<FileError>(field.key == "type" || std::find(keys.begin(), keys.end(), field.key) != keys.end(), path_, ": the field ",
                     quoted(field.key), " is not known");
}

std::optional<JsonValue> Fields::find(std::string_view key) const {
  const auto value = json_as<JsonValue>(object_.at_key(key));
  return value && !value->is_null() ? value : std::nullopt;
}

JsonValue Fields::at(std::string_view key) const {
  const std::optional<JsonValue> value = find(key);
  if (!value) refuse(key, "is missing");
  return *value;
}

std::string_view Fields::text(std::string_view key) const { return text_of(at(key), path_of(key)); }

std::string_view Fields::text(std::string_view key, size_t longest) const {
  const std::string_view value = text(key);
  if (value.size() > longest) refuse(key, "has ", value.size(), " bytes; at most ", longest, " are supported");
  return value;
}

bool Fields::flag(std::string_view key) const {
  const auto flag = json_as<bool>(at(key));
  if (!flag) refuse(key, "must be true or false");
  return *flag;
}

bool Fields::flag(std::string_view key, bool if_absent) const { return find(key) ? flag(key) : if_absent; }

int64_t Fields::integer(std::string_view key, int64_t least, int64_t most) const { return integer_of(at(key), least, most, path_of(key)); }

char32_t Fields::character(std::string_view key) const {
  const std::string_view value = text(key);
  if (value.empty() || utf8_length(value[0]) != value.size()) refuse(key, "is ", quoted(value), "; must be one character");
  return first_character(value).code_point;
}

JsonArray Fields::array(std::string_view key, size_t most) const {
  const auto array = json_as<JsonArray>(at(key));
  if (!array) refuse(key, "must be an array");
  if (array->size() > most) refuse(key, "has more than ", most, " elements");
  return *array;
}

void Fields::each_object(std::string_view key, size_t most, const std::function<void(const Fields&)>& use) const {
  size_t index = 0;
  for (const JsonValue element : array(key, most)) use(Fields(element, path_of(key) + "[" + std::to_string(index++) + "]"));
}

// (Without a stream: it is called for every field of thousands of tokens.)
std::string Fields::path_of(std::string_view key) const { return ((path_ + std::string(joint_)) += key); }

}  // namespace tessera::text

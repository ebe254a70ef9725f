#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace tessera {

// Bounds of a field, both included, but `above` is not.
struct IntegerRange {
  int64_t min;
  int64_t max;
};
struct NumberRange {
  double above = -std::numeric_limits<double>::infinity();
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
};

// "an integer from 1 to 8", "a number above 0".
std::ostream& operator<<(std::ostream& out, const IntegerRange& range);
std::ostream& operator<<(std::ostream& out, const NumberRange& range);

// Strict access to an object of config.json: each field has one type and a range, and each message names the file and the field.
//
// As transformers' config classes do: an absent field has its class default; null is a value, welcome only where the class says
// "| None" (the optional_ functions), and stands there for None whatever the default; true is no integer, 4096.0 is no integer, but an
// integer is a number. All throw FileError. Borrows the document.
class ConfigReader {
 public:
  // `source` is the file's path. The root must be an object.
  ConfigReader(JsonValue object, std::string source);

  // Without a default the field is required.
  int64_t integer(std::string_view field, IntegerRange range, std::optional<int64_t> absent = std::nullopt) const;
  double number(std::string_view field, NumberRange range, std::optional<double> absent = std::nullopt) const;
  bool boolean(std::string_view field, std::optional<bool> absent = std::nullopt) const;
  std::string text(std::string_view field, std::optional<std::string_view> absent = std::nullopt) const;

  // null gives nullopt; an absent field gives `absent`.
  std::optional<int64_t> optional_integer(std::string_view field, IntegerRange range, std::optional<int64_t> absent = std::nullopt) const;
  std::optional<double> optional_number(std::string_view field, NumberRange range, std::optional<double> absent = std::nullopt) const;
  std::optional<std::string> optional_text(std::string_view field) const;

  // Lists are required; `most` bounds their length.
  std::vector<int64_t> integers(std::string_view field, IntegerRange range, size_t most) const;
  std::vector<double> numbers(std::string_view field, NumberRange range, size_t most) const;
  std::vector<std::string> texts(std::string_view field, size_t most) const;
  std::vector<ConfigReader> objects(std::string_view field, size_t most) const;
  // [[1, 2], [3]], and [[[1, 2], -0.5], [[3], 4.0]]; `most` bounds the inner lists too.
  std::vector<std::vector<int64_t>> integer_lists(std::string_view field, IntegerRange range, size_t most) const;
  std::vector<std::pair<std::vector<int64_t>, double>> integer_lists_with_numbers(std::string_view field, IntegerRange integers,
                                                                                  NumberRange numbers, size_t most) const;

  // A nested object; nullopt when absent or null.
  std::optional<ConfigReader> object(std::string_view field) const;

  bool contains(std::string_view field) const;  // null counts
  bool is_set(std::string_view field) const;    // absent or null: false
  bool is_list(std::string_view field) const;
  bool is_object(std::string_view field) const;
  bool is_text(std::string_view field) const;
  bool empty() const { return object_.size() == 0; }
  std::vector<std::string> fields() const;  // their names

  // "config.json: text_config.hidden_size", as it begins a message.
  std::string where(std::string_view field) const;

  // "config.json: rope_type is "frob"".
  std::string told(std::string_view field) const;

  // Refuses a field's value: told(field), ": " and the parts.
  template <class... Parts>
  [[noreturn]] void refuse(std::string_view field, const Parts&... parts) const {
    fail<FileError>(told(field), ": ", parts...);
  }

 private:
  ConfigReader(JsonObject object, std::string source, std::string prefix);
  std::optional<JsonValue> find(std::string_view field) const;  // nullopt: absent
  JsonValue require(std::string_view field) const;
  std::string where(std::string_view list, size_t index) const;

  JsonObject object_;
  std::string source_;
  std::string prefix_;  // "text_config."
};

}  // namespace tessera

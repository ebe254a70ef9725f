#include "checkpoint/config.h"

#include <utility>

namespace tessera {
namespace {

// A value as it stands in a message.
struct Shown {
  JsonValue value;
};

std::ostream& operator<<(std::ostream& out, const Shown& shown) {
  if (shown.value.is_object()) return out << "an object";
  if (const auto list = json_as<JsonArray>(shown.value)) return out << "a list of " << list->size();
  if (const auto text = json_as<std::string_view>(shown.value)) return out << printable(*text);
  return out << simdjson::minify(shown.value);
}

int64_t as_integer(JsonValue value, IntegerRange range, const std::string& where) {
  const auto integer = json_as<int64_t>(value);
  check<FileError>(integer && *integer >= range.min && *integer <= range.max, where, " is ", Shown{value}, ": must be ", range);
  return *integer;
}

double as_number(JsonValue value, NumberRange range, const std::string& where) {
  const auto number = json_as<double>(value);
  check<FileError>(number && *number > range.above && *number >= range.min && *number <= range.max, where, " is ", Shown{value},
                   ": must be ", range);
  return *number;
}

std::string as_text(JsonValue value, const std::string& where) {
  const auto text = json_as<std::string_view>(value);
  check<FileError>(text.has_value(), where, " is ", Shown{value}, ": must be text");
  return std::string(*text);
}

JsonArray as_list(JsonValue value, size_t most, const std::string& where) {
  const auto list = json_as<JsonArray>(value);
  check<FileError>(list.has_value(), where, " is ", Shown{value}, ": must be a list");
  check<FileError>(list->size() <= most, where, " is ", Shown{value}, ": at most ", most, " are allowed");
  return *list;
}

JsonObject as_object(JsonValue value, const std::string& where) {
  const auto object = json_as<JsonObject>(value);
  check<FileError>(object.has_value(), where, " is ", Shown{value}, ": must be an object");
  return *object;
}

std::vector<int64_t> as_integers(JsonValue list, IntegerRange range, size_t most, const std::string& where) {
  std::vector<int64_t> result;
  for (const JsonValue value : as_list(list, most, where))
    result.push_back(as_integer(value, range, message(where, "[", result.size(), "]")));
  return result;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const IntegerRange& range) {
  out << "an integer ";
  if (range.max == std::numeric_limits<int64_t>::max()) return out << ">= " << range.min;
  return out << "from " << range.min << " to " << range.max;
}

std::ostream& operator<<(std::ostream& out, const NumberRange& range) {
  constexpr NumberRange kOpen;
  out << "a number";
  if (range.above != kOpen.above) out << " above " << range.above;
  if (range.min != kOpen.min) out << " from " << range.min;
  if (range.max != kOpen.max) out << " up to " << range.max;
  return out;
}

ConfigReader::ConfigReader(JsonValue root, std::string source) : source_(std::move(source)) {
  check<FileError>(root.get(object_) == simdjson::SUCCESS, source_, ": is ", Shown{root}, ", not an object");
}

ConfigReader::ConfigReader(JsonObject object, std::string source, std::string prefix)
    : object_(object), source_(std::move(source)), prefix_(std::move(prefix)) {}

std::optional<JsonValue> ConfigReader::find(std::string_view field) const { return json_as<JsonValue>(object_.at_key(field)); }

JsonValue ConfigReader::require(std::string_view field) const {
  const std::optional<JsonValue> value = find(field);
  if (!value) fail<FileError>(where(field), " is missing");
  return *value;
}

std::string ConfigReader::where(std::string_view field) const { return message(source_, ": ", prefix_, field); }

std::string ConfigReader::where(std::string_view list, size_t index) const { return message(where(list), "[", index, "]"); }

std::string ConfigReader::told(std::string_view field) const {
  const std::optional<JsonValue> value = find(field);
  return value ? message(where(field), " is ", Shown{*value}) : where(field) + " is missing";
}

bool ConfigReader::contains(std::string_view field) const { return find(field).has_value(); }

bool ConfigReader::is_set(std::string_view field) const { return contains(field) && !find(field)->is_null(); }

std::vector<std::string> ConfigReader::fields() const {
  std::vector<std::string> names;
  for (const auto& field : object_) names.emplace_back(field.key);
  return names;
}

bool ConfigReader::is_list(std::string_view field) const { return contains(field) && find(field)->is_array(); }
bool ConfigReader::is_object(std::string_view field) const { return contains(field) && find(field)->is_object(); }
bool ConfigReader::is_text(std::string_view field) const { return contains(field) && find(field)->is_string(); }

int64_t ConfigReader::integer(std::string_view field, IntegerRange range, std::optional<int64_t> absent) const {
  return absent && !contains(field) ? *absent : as_integer(require(field), range, where(field));
}

double ConfigReader::number(std::string_view field, NumberRange range, std::optional<double> absent) const {
  return absent && !contains(field) ? *absent : as_number(require(field), range, where(field));
}

bool ConfigReader::boolean(std::string_view field, std::optional<bool> absent) const {
  if (absent && !contains(field)) return *absent;
  const JsonValue value = require(field);
  const auto boolean = json_as<bool>(value);
  check<FileError>(boolean.has_value(), where(field), " is ", Shown{value}, ": must be true or false");
  return *boolean;
}

std::string ConfigReader::text(std::string_view field, std::optional<std::string_view> absent) const {
  return absent && !contains(field) ? std::string(*absent) : as_text(require(field), where(field));
}

std::optional<int64_t> ConfigReader::optional_integer(std::string_view field, IntegerRange range, std::optional<int64_t> absent) const {
  if (!contains(field)) return absent;
  return is_set(field) ? std::optional(integer(field, range)) : std::nullopt;
}

std::optional<double> ConfigReader::optional_number(std::string_view field, NumberRange range, std::optional<double> absent) const {
  if (!contains(field)) return absent;
  return is_set(field) ? std::optional(number(field, range)) : std::nullopt;
}

std::optional<std::string> ConfigReader::optional_text(std::string_view field) const {
  return is_set(field) ? std::optional(text(field)) : std::nullopt;
}

std::vector<int64_t> ConfigReader::integers(std::string_view field, IntegerRange range, size_t most) const {
  return as_integers(require(field), range, most, where(field));
}

std::vector<std::vector<int64_t>> ConfigReader::integer_lists(std::string_view field, IntegerRange range, size_t most) const {
  std::vector<std::vector<int64_t>> result;
  for (const JsonValue value : as_list(require(field), most, where(field)))
    result.push_back(as_integers(value, range, most, where(field, result.size())));
  return result;
}

std::vector<std::pair<std::vector<int64_t>, double>> ConfigReader::integer_lists_with_numbers(std::string_view field, IntegerRange integers,
                                                                                              NumberRange numbers, size_t most) const {
  std::vector<std::pair<std::vector<int64_t>, double>> result;
  for (const JsonValue value : as_list(require(field), most, where(field))) {
    const std::string at = where(field, result.size());
    const JsonArray pair = as_list(value, 2, at);
    check<FileError>(pair.size() == 2, at, " is ", Shown{value}, ": must be a list of integers and a number");
    result.emplace_back(as_integers(pair.at(0), integers, most, at + "[0]"), as_number(pair.at(1), numbers, at + "[1]"));
  }
  return result;
}

std::vector<double> ConfigReader::numbers(std::string_view field, NumberRange range, size_t most) const {
  std::vector<double> result;
  for (const JsonValue value : as_list(require(field), most, where(field)))
    result.push_back(as_number(value, range, where(field, result.size())));
  return result;
}

std::vector<std::string> ConfigReader::texts(std::string_view field, size_t most) const {
  std::vector<std::string> result;
  for (const JsonValue value : as_list(require(field), most, where(field))) result.push_back(as_text(value, where(field, result.size())));
  return result;
}

std::vector<ConfigReader> ConfigReader::objects(std::string_view field, size_t most) const {
  std::vector<ConfigReader> result;
  for (const JsonValue value : as_list(require(field), most, where(field))) {
    const size_t index = result.size();
    result.push_back(ConfigReader(as_object(value, where(field, index)), source_, message(prefix_, field, "[", index, "].")));
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(std::string_view field) const {
  if (!is_set(field)) return std::nullopt;
  return ConfigReader(as_object(*find(field), where(field)), source_, message(prefix_, field, "."));
}

}  // namespace tessera

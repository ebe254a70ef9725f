#include "checkpoint/config.h"

#include <cmath>
#include <utility>

namespace tessera {
namespace {

// A value as it stands in a message.
struct Shown {
  const Json& value;
};

std::ostream& operator<<(std::ostream& out, const Shown& shown) {
  switch (shown.value.type()) {
    case Json::value_t::object:
      return out << "an object";
    case Json::value_t::array:
      return out << "a list of " << shown.value.size();
    case Json::value_t::string:
      return out << printable(shown.value.get_ref<const std::string&>());
    default:
      return out << shown.value.dump();
  }
}

int64_t as_integer(const Json& value, IntegerRange range, const std::string& where) {
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  check<FileError>(fits && value.get<int64_t>() >= range.min && value.get<int64_t>() <= range.max, where, " is ", Shown{value},
                   ": must be ", range);
  return value.get<int64_t>();
}

double as_number(const Json& value, NumberRange range, const std::string& where) {
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  check<FileError>(number > range.above && number >= range.min && number <= range.max, where, " is ", Shown{value}, ": must be ", range);
  return number;
}

std::string as_text(const Json& value, const std::string& where) {
  check<FileError>(value.is_string(), where, " is ", Shown{value}, ": must be text");
  return value.get<std::string>();
}

const Json::array_t& as_list(const Json& value, size_t most, const std::string& where) {
  check<FileError>(value.is_array(), where, " is ", Shown{value}, ": must be a list");
  check<FileError>(value.size() <= most, where, " is ", Shown{value}, ": at most ", most, " are allowed");
  return value.get_ref<const Json::array_t&>();
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

ConfigReader::ConfigReader(const Json& object, std::string source) : ConfigReader(object, std::move(source), "") {
  check<FileError>(object.is_object(), source_, ": is ", Shown{object}, ", not an object");
}

ConfigReader::ConfigReader(const Json& object, std::string source, std::string prefix)
    : object_(&object), source_(std::move(source)), prefix_(std::move(prefix)) {}

const Json* ConfigReader::find(std::string_view field) const {
  const auto found = object_->find(field);
  return found == object_->end() ? nullptr : &*found;
}

const Json& ConfigReader::require(std::string_view field) const {
  const Json* const value = find(field);
  if (value == nullptr) fail<FileError>(where(field), " is missing");
  return *value;
}

std::string ConfigReader::where(std::string_view field) const { return message(source_, ": ", prefix_, field); }

std::string ConfigReader::where(std::string_view list, size_t index) const { return message(where(list), "[", index, "]"); }

std::string ConfigReader::shown(std::string_view field) const {
  const Json* const value = find(field);
  return value == nullptr ? "missing" : message(Shown{*value});
}

bool ConfigReader::contains(std::string_view field) const { return find(field) != nullptr; }

bool ConfigReader::is_set(std::string_view field) const { return contains(field) && !find(field)->is_null(); }

bool ConfigReader::is_list(std::string_view field) const { return contains(field) && find(field)->is_array(); }

int64_t ConfigReader::integer(std::string_view field, IntegerRange range, std::optional<int64_t> absent) const {
  return absent && !contains(field) ? *absent : as_integer(require(field), range, where(field));
}

double ConfigReader::number(std::string_view field, NumberRange range, std::optional<double> absent) const {
  return absent && !contains(field) ? *absent : as_number(require(field), range, where(field));
}

bool ConfigReader::boolean(std::string_view field, std::optional<bool> absent) const {
  if (absent && !contains(field)) return *absent;
  const Json& value = require(field);
  check<FileError>(value.is_boolean(), where(field), " is ", Shown{value}, ": must be true or false");
  return value.get<bool>();
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
  std::vector<int64_t> result;
  for (const Json& value : as_list(require(field), most, where(field)))
    result.push_back(as_integer(value, range, where(field, result.size())));
  return result;
}

std::vector<double> ConfigReader::numbers(std::string_view field, NumberRange range, size_t most) const {
  std::vector<double> result;
  for (const Json& value : as_list(require(field), most, where(field)))
    result.push_back(as_number(value, range, where(field, result.size())));
  return result;
}

std::vector<std::string> ConfigReader::texts(std::string_view field, size_t most) const {
  std::vector<std::string> result;
  for (const Json& value : as_list(require(field), most, where(field))) result.push_back(as_text(value, where(field, result.size())));
  return result;
}

std::vector<ConfigReader> ConfigReader::objects(std::string_view field, size_t most) const {
  std::vector<ConfigReader> result;
  for (const Json& value : as_list(require(field), most, where(field))) {
    const std::string at = message(prefix_, field, "[", result.size(), "]");
    check<FileError>(value.is_object(), source_, ": ", at, " is ", Shown{value}, ": must be an object");
    result.push_back(ConfigReader(value, source_, at + "."));
  }
  return result;
}

std::optional<ConfigReader> ConfigReader::object(std::string_view field) const {
  if (!is_set(field)) return std::nullopt;
  const Json& value = *find(field);
  check<FileError>(value.is_object(), where(field), " is ", Shown{value}, ": must be an object");
  return ConfigReader(value, source_, message(prefix_, field, "."));
}

}  // namespace tessera

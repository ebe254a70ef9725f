#include "api/fields.h"

#include <algorithm>
#include <utility>

namespace tessera::api {
namespace {

constexpr size_t kMostName = 100;  // bytes of a foreign name or value in a message

template <class Number>
Number in_limits(JsonValue value, const std::string& param, const char* kind, Number least, Number most) {
  const auto given = json_as<Number>(value);
  if (given && *given >= least && *given <= most) return *given;
  const std::string text = simdjson::minify(value);
  refuse(param, text.substr(0, kMostName), " is not accepted; give a ", kind, ", ", least, " to ", most);
}

// Where nlohmann's parser, which counts, sees that it is no JSON; "" where it sees nothing.
std::string place_of_error(std::string_view text) {
  try {
    const auto keep_nothing = [](int, nlohmann::json::parse_event_t, nlohmann::json&) { return false; };
    [[maybe_unused]] const nlohmann::json nothing = nlohmann::json::parse(text, keep_nothing);
  } catch (const nlohmann::json::parse_error& error) {
    return message(" at byte ", error.byte);
  } catch (const nlohmann::json::out_of_range&) {  // a number
  }
  return "";
}

}  // namespace

JsonDocument parse_body(std::string_view text) {
  try {
    JsonDocument document = parse_json(text, "the body", {.max_bytes = size_t{8} << 20});
    if (!json_as<JsonObject>(document.root())) throw FieldError("", "the body: must be a JSON object");
    return document;
  } catch (const FileError& error) {
    throw FieldError("", error.what() + place_of_error(text));
  }
}

std::optional<JsonValue> Fields::value(std::string_view name) {
  known_.push_back(name);
  const auto found = json_as<JsonValue>(object_.at_key(name));
  return found && !found->is_null() ? found : std::nullopt;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  const auto given = json_as<bool>(*found);
  expect(given.has_value(), param(name), "must be true or false");
  return given;
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t least, int64_t most) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  return in_limits(*found, param(name), "whole number", least, most);
}

std::optional<double> Fields::number(std::string_view name, double least, double most) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  return in_limits(*found, param(name), "number", least, most);
}

std::optional<std::string> Fields::text(std::string_view name) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  const auto given = json_as<std::string_view>(*found);
  expect(given.has_value(), param(name), "must be a text");
  return std::string(*given);
}

std::optional<JsonArray> Fields::list(std::string_view name, size_t most) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  const auto given = json_as<JsonArray>(*found);
  expect(given.has_value(), param(name), "must be a list");
  expect(given->size() <= most, param(name), "has ", given->size(), " entries; at most ", most, " are taken");
  return given;
}

std::optional<JsonObject> Fields::object(std::string_view name) {
  const auto found = value(name);
  if (!found) return std::nullopt;
  const auto given = json_as<JsonObject>(*found);
  expect(given.has_value(), param(name), "must be an object");
  return given;
}

std::vector<Fields> Fields::objects(std::string_view name, size_t most) {
  std::vector<Fields> all;
  const auto given = list(name, most);
  if (!given) return all;
  for (const JsonValue value : *given) {
    const std::string place = message(param(name), '[', all.size(), ']');
    const auto object = json_as<JsonObject>(value);
    expect(object.has_value(), place, "must be an object");
    all.emplace_back(*object, place + ".");
  }
  return all;
}

std::string Fields::needed_text(std::string_view name) {
  auto given = text(name);
  expect(given.has_value(), param(name), "is not there");
  return *std::move(given);
}

JsonObject Fields::needed_object(std::string_view name) {
  const auto given = object(name);
  expect(given.has_value(), param(name), "is not there");
  return *given;
}

void Fields::expect_usual(std::string_view name, std::initializer_list<std::string_view> usual) {
  const auto given = value(name);
  if (!given) return;
  const std::string text = simdjson::minify(*given);
  expect(std::find(usual.begin(), usual.end(), text) != usual.end(), param(name), "is not supported; leave it out");
}

void Fields::expect_no_others() const {
  for (const auto field : object_) {
    const bool known = std::find(known_.begin(), known_.end(), field.key) != known_.end();
    expect(known || field.value.is_null(), param(field.key.substr(0, kMostName)), "this field is not supported; leave it out");
  }
}

}  // namespace tessera::api

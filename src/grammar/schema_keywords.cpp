#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "grammar/schema_caps.h"

namespace tessera::grammar {
namespace {

using Words = std::span<const std::string_view>;

bool is_in(Words words, std::string_view word) { return std::find(words.begin(), words.end(), word) != words.end(); }

using namespace std::string_view_literals;

// Keywords that say nothing of which values a schema takes, by JSON Schema or OpenAPI; $defs and definitions are taken through $ref.
constexpr std::array kAnnotations{"title"sv,
                                  "description"sv,
                                  "default"sv,
                                  "example"sv,
                                  "examples"sv,
                                  "deprecated"sv,
                                  "readOnly"sv,
                                  "writeOnly"sv,
                                  "$schema"sv,
                                  "$id"sv,
                                  "id"sv,
                                  "$comment"sv,
                                  "$anchor"sv,
                                  "$vocabulary"sv,
                                  "$defs"sv,
                                  "definitions"sv,
                                  "contentEncoding"sv,
                                  "contentMediaType"sv,
                                  "contentSchema"sv,
                                  "discriminator"sv,
                                  "externalDocs"sv,
                                  "xml"sv};
constexpr std::array kIntegers{"minimum"sv, "maximum"sv, "exclusiveMinimum"sv, "exclusiveMaximum"sv, "multipleOf"sv};
constexpr std::array kNumbers{"minimum"sv, "maximum"sv, "exclusiveMinimum"sv, "exclusiveMaximum"sv};
constexpr std::array kStrings{"format"sv, "pattern"sv, "minLength"sv, "maxLength"sv};
constexpr std::array kArrays{"items"sv, "prefixItems"sv, "unevaluatedItems"sv, "minItems"sv, "maxItems"sv};
constexpr std::array kObjects{"properties"sv,        "required"sv,      "additionalProperties"sv, "unevaluatedProperties"sv,
                              "patternProperties"sv, "propertyNames"sv, "minProperties"sv,        "maxProperties"sv};

bool is_annotation(std::string_view keyword) { return keyword.starts_with("x-") || is_in(kAnnotations, keyword); }

// What the compiler looks at for a type; nothing for a type that is none.
Words keywords_of(std::string_view type) {
  return type == "integer"  ? Words(kIntegers)
         : type == "number" ? Words(kNumbers)
         : type == "string" ? Words(kStrings)
         : type == "array"  ? Words(kArrays)
         : type == "object" ? Words(kObjects)
                            : Words();
}

bool is_of_type(const JsonValue& value, std::string_view type) {
  if (type == "string") return json_as<std::string_view>(value).has_value();
  if (type == "boolean") return json_as<bool>(value).has_value();
  if (type == "null") return value.is_null();
  if (type == "array") return json_as<JsonArray>(value).has_value();
  if (type == "object") return json_as<JsonObject>(value).has_value();
  const auto number = json_as<double>(value);
  return number && (type == "number" || (type == "integer" && std::floor(*number) == *number));
}

std::vector<std::string_view> types_of(const JsonObject& schema) {
  std::vector<std::string_view> types;
  JsonValue type;
  if (schema["type"].get(type) != simdjson::SUCCESS) return types;
  if (const auto one = json_as<std::string_view>(type)) types.push_back(*one);
  if (const auto list = json_as<JsonArray>(type))
    for (const JsonValue each : *list) types.push_back(json_as<std::string_view>(each).value_or(""));
  return types;
}

bool has(const JsonObject& schema, std::string_view keyword) { return schema[keyword].error() == simdjson::SUCCESS; }

// The keyword that decides, before which all others are passed over; empty where it is the type.
std::string_view deciding(const JsonObject& schema) {
  for (const std::string_view keyword : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"})
    if (has(schema, keyword)) return keyword;
  return "";
}

// Whether names may be chosen: one may then come twice, so that what is counted is not what is left of it.
bool has_open_names(const JsonObject& schema) {
  const bool is_closed =
      has(schema, "additionalProperties") ? json_as<bool>(schema["additionalProperties"]) == false : has(schema, "properties");
  return !is_closed || has(schema, "patternProperties") || has(schema, "propertyNames") || has(schema, "unevaluatedProperties");
}

// Patterns of names are held one at a time, where no other names may come: else a name that fits one would also come by another way.
bool has_crossing_patterns(const JsonObject& schema) {
  const auto patterns = json_as<JsonObject>(schema["patternProperties"]);
  return (patterns && patterns->size() > 1) || has(schema, "properties") || has(schema, "propertyNames") ||
         has(schema, "unevaluatedProperties") ||
         (has(schema, "additionalProperties") && json_as<bool>(schema["additionalProperties"]) != false);
}

std::optional<std::string> wrong_value(const JsonObject& schema, std::string_view keyword) {
  const std::vector<std::string_view> types = types_of(schema);
  const auto is_wrong = [&](const JsonValue& value) {
    return !types.empty() && std::none_of(types.begin(), types.end(), [&](std::string_view type) { return is_of_type(value, type); });
  };
  JsonValue value;
  if (schema[keyword].get(value) != simdjson::SUCCESS) return std::nullopt;
  bool any = keyword == "const" && is_wrong(value);
  if (const auto list = json_as<JsonArray>(value); list && keyword == "enum")
    for (const JsonValue each : *list) any = any || is_wrong(each);
  return any ? std::optional(message("a value of ", keyword, " is not of the schema's type")) : std::nullopt;
}

}  // namespace

std::optional<std::string> unenforced_keyword(const JsonObject& schema) {
  const std::string_view decided = deciding(schema);
  std::vector<std::string_view> types = types_of(schema);
  if (decided.empty() && types.empty()) types.push_back(has(schema, "items") || has(schema, "prefixItems") ? "array" : "object");
  for (const auto& [key, value] : schema) {
    if (is_annotation(key) || key == "type" || key == decided) continue;
    if (key == "uniqueItems" && json_as<bool>(value) == false) continue;
    if (key == "minProperties" && decided.empty() && has_open_names(schema))
      return "the keyword \"minProperties\" would not be enforced where other names than those of properties may come";
    if (key == "patternProperties" && decided.empty() && has_crossing_patterns(schema))
      return "the keyword \"patternProperties\" would not be enforced for more than one pattern, or beside other names";
    if (!decided.empty()) return message("the keyword ", printable(key), " would not be enforced beside ", decided);
    if (std::none_of(types.begin(), types.end(), [&](std::string_view type) { return is_in(keywords_of(type), key); }))
      return message("the keyword ", printable(key), " would not be enforced", has(schema, "type") ? "" : " without a type that it is for");
  }
  if (!types.empty() && decided.ends_with("Of")) return message("the keyword \"type\" would not be enforced beside ", decided);
  if (decided == "$ref" && !types.empty()) return "the keyword \"type\" would not be enforced beside $ref";
  if (decided == "allOf") {
    const auto list = json_as<JsonArray>(schema["allOf"]);
    if (list && list->size() > 1) return "allOf of more than one schema would not be enforced";
  }
  if (decided == "$ref" && !json_as<std::string_view>(schema["$ref"]).value_or("").starts_with("#"))
    return "a $ref that does not lead into the schema itself (#/...) would not be enforced";
  return wrong_value(schema, decided);
}

}  // namespace tessera::grammar

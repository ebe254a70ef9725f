#include "grammar/schema_caps.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace tessera {
namespace {

using namespace grammar_caps;
using Kind = GrammarSource::Kind;
using Json = nlohmann::ordered_json;

// Where other schemas stand in one: under these keywords, in an object of names under these, in a list under these.
constexpr std::array kSchemaKeywords{"items",
                                     "additionalItems",
                                     "unevaluatedItems",
                                     "contains",
                                     "additionalProperties",
                                     "unevaluatedProperties",
                                     "propertyNames",
                                     "not",
                                     "if",
                                     "then",
                                     "else"};
constexpr std::array kMapKeywords{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"};
constexpr std::array kListKeywords{"anyOf", "oneOf", "allOf", "prefixItems"};
constexpr std::array kCountKeywords{"minLength", "maxLength", "minItems", "maxItems", "minContains", "minProperties", "maxProperties"};

class Refused : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

template <class... Parts>
void cap(bool ok, const Parts&... parts) {
  check<Refused>(ok, parts...);
}

bool is_quantifier(char c) { return c == '*' || c == '+' || c == '?' || c == '{'; }

// A regular expression's length, the depth of its groups and that nothing is repeated twice.
void check_pattern(std::string_view pattern, const char* name) {
  cap(pattern.size() <= kPatternBytes, name, ": a pattern of ", pattern.size(), " bytes; at most ", kPatternBytes);
  int depth = 0;
  bool is_class = false, is_quantified = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const bool was_quantified = std::exchange(is_quantified, false);
    if (c == '\\') {
      ++i;
    } else if (is_class) {
      is_class = c != ']';
    } else if (c == '[') {
      is_class = true;
    } else if (c == '(') {
      cap(++depth <= kGroupDepth, name, ": groups are nested more than ", kGroupDepth, " deep in a pattern");
      if (i + 1 < pattern.size() && pattern[i + 1] == '?') ++i;  // of (?: and its like
    } else if (c == ')') {
      --depth;
    } else if (is_quantifier(c)) {
      cap(!was_quantified || c == '?', name, ": ", printable(pattern.substr(i, 1)), " repeats a repetition at byte ", i, " of a pattern");
      is_quantified = !was_quantified;
      if (c == '{')
        while (i + 1 < pattern.size() && pattern[i] != '}') ++i;
    }
  }
}

class SchemaWalk {
 public:
  SchemaWalk(bool is_strict, size_t most_properties) : is_strict_(is_strict), most_properties_(most_properties) {}

  void walk(const JsonValue& value, int depth = 1, int alternatives = 0) {
    cap(depth <= kDepth, "schema: schemas are nested more than ", kDepth, " deep");
    const auto schema = json_as<JsonObject>(value);
    if (!schema) {
      cap(json_as<bool>(value).has_value(), "schema: a schema is neither an object nor true or false");
      return;
    }
    if (is_strict_)
      if (const auto reason = grammar::unenforced_keyword(*schema)) throw Refused("schema: " + *reason);
    for (const auto& [key, below] : *schema) member(key, below, depth, alternatives);
  }

 private:
  void member(std::string_view key, const JsonValue& value, int depth, int alternatives) {
    const auto is_in = [&](const auto& keywords) { return std::find(keywords.begin(), keywords.end(), key) != keywords.end(); };
    if (is_in(kListKeywords)) {
      const auto list = json_as<JsonArray>(value);
      cap(list && list->size() > 0 && list->size() <= kValues, "schema: ", key, " must be a list of 1 to ", kValues, " schemas");
      const int within = alternatives + (key == "prefixItems" ? 0 : 1);
      cap(within <= kAlternativesDepth, "schema: anyOf, oneOf and allOf are nested more than ", kAlternativesDepth, " deep");
      for (const JsonValue below : *list) walk(below, depth + 1, within);
    } else if (is_in(kMapKeywords)) {
      const auto map = json_as<JsonObject>(value);
      cap(map.has_value(), "schema: ", key, " must be an object of schemas");
      count_properties(map->size());
      for (const auto& [name, below] : *map) {
        if (key == "patternProperties") check_pattern(name, "schema");
        walk(below, depth + 1, alternatives);
      }
    } else if (is_in(kSchemaKeywords)) {
      walk(value, depth + 1, alternatives);
    } else if (is_in(kCountKeywords)) {
      const auto count = json_as<int64_t>(value);
      cap(count && *count >= 0 && *count <= kRepeats, "schema: ", key, " must be an integer of 0 to ", kRepeats);
    } else if (key == "enum") {
      const auto list = json_as<JsonArray>(value);
      cap(list && list->size() > 0 && list->size() <= kValues, "schema: enum must be a list of 1 to ", kValues, " values");
    } else if (key == "required") {
      const auto list = json_as<JsonArray>(value);
      cap(list && list->size() <= kProperties, "schema: required must be a list of at most ", kProperties, " names");
      for (const JsonValue name : *list) cap(json_as<std::string_view>(name).has_value(), "schema: required must be a list of names");
    } else if (key == "pattern" || key == "format" || key == "$ref") {
      const auto text = json_as<std::string_view>(value);
      cap(text.has_value(), "schema: ", key, " must be a string");
      if (key == "pattern") check_pattern(*text, "schema");
    }
  }

  void count_properties(size_t count) {
    cap(count <= kObjectProperties, "schema: an object of ", count, " properties; at most ", kObjectProperties);
    cap((properties_ += count) <= most_properties_, "schema: more than ", most_properties_, " properties in all");
  }

  bool is_strict_;
  size_t most_properties_, properties_ = 0;
};

void check_bytes(std::string_view text, size_t most, const char* name) {
  cap(text.size() <= most, name, ": ", text.size(), " bytes; at most ", most);
}

JsonDocument parse(std::string_view text, size_t most_bytes, const char* name) {
  check_bytes(text, most_bytes, name);
  try {
    return parse_json(text, name, {most_bytes, 64});
  } catch (const FileError& error) {
    throw Refused(error.what());
  }
}

void check_choice(std::string_view text) {
  const JsonDocument document = parse(text, kBytes, "choice");
  const auto list = json_as<JsonArray>(document.root());
  cap(list && list->size() > 0 && list->size() <= kValues, "choice: must be a JSON list of 1 to ", kValues, " texts");
  for (const JsonValue one : *list) {
    const auto choice = json_as<std::string_view>(one);
    cap(choice && !choice->empty(), "choice: must be a JSON list of texts, none of them empty");
  }
}

void check_grammar(std::string_view text) {
  check_bytes(text, kBytes, "grammar");
  int depth = 0;
  char closing = 0;  // of a text or class that is open
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;
    } else if (closing != 0) {
      if (c == closing || (closing != ']' && c == '\n')) closing = 0;
    } else if (c == '"' || c == '[' || c == '#') {
      closing = c == '"' ? '"' : c == '[' ? ']' : '\n';
    } else if (c == '(') {
      cap(++depth <= kGrammarDepth, "grammar: parentheses are nested more than ", kGrammarDepth, " deep");
    } else if (c == ')') {
      --depth;
    }
  }
}

// Everything in a structural tag that is a form: {"json_schema": {...}}, {"type": "regex", "pattern": ...}, {"type": "grammar", ...}.
void check_tag(const JsonValue& value, SchemaWalk& schemas) {
  if (const auto list = json_as<JsonArray>(value)) {
    for (const JsonValue one : *list) check_tag(one, schemas);
  } else if (const auto object = json_as<JsonObject>(value)) {
    const auto type = json_as<std::string_view>((*object)["type"]);
    for (const auto& [key, below] : *object) {
      if (key == "json_schema") {
        schemas.walk(below);
      } else if (type == "regex" && key == "pattern") {
        check_pattern(json_as<std::string_view>(below).value_or(""), "structural_tag");
      } else if (type == "grammar" && key == "grammar") {
        check_grammar(json_as<std::string_view>(below).value_or(""));
      } else {
        check_tag(below, schemas);
      }
    }
  }
}

void check_source(const GrammarSource& source) {
  const char* name = name_of(source.kind);
  switch (source.kind) {
    case Kind::json:
      return;
    case Kind::json_schema:
      return SchemaWalk(source.strict, kProperties).walk(parse(source.text, kBytes, "schema").root());
    case Kind::regex:
      return check_pattern(source.text, name);
    case Kind::choice:
      return check_choice(source.text);
    case Kind::grammar:
      return check_grammar(source.text);
    case Kind::structural_tag: {
      SchemaWalk schemas(source.strict, kTagProperties);
      return check_tag(parse(source.text, kTagBytes, name).root(), schemas);
    }
  }
}

void close(Json& schema) {
  if (!schema.is_object()) return;
  const bool names_properties = schema.contains("properties") || schema.contains("patternProperties") || schema.contains("propertyNames");
  const auto has_type = [&](const char* type) {
    const auto found = schema.find("type");
    return found != schema.end() &&
           (*found == type || (found->is_array() && std::find(found->begin(), found->end(), type) != found->end()));
  };
  if (has_type("object") && !names_properties && !schema.contains("additionalProperties") && !schema.contains("unevaluatedProperties"))
    schema["additionalProperties"] = true;
  if ((has_type("array") || schema.contains("prefixItems")) && !schema.contains("items") && !schema.contains("unevaluatedItems"))
    schema["items"] = true;
  for (const char* key : kSchemaKeywords)
    if (schema.contains(key)) close(schema[key]);
  for (const char* key : kMapKeywords)
    if (schema.contains(key))
      for (Json& below : schema[key]) close(below);
  for (const char* key : kListKeywords)
    if (schema.contains(key))
      for (Json& below : schema[key]) close(below);
}

void close_within(Json& tag) {
  for (auto& [key, below] : tag.items()) {
    if (key == "json_schema") {
      close(below);
    } else if (below.is_structured()) {
      close_within(below);
    }
  }
}

}  // namespace

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::json:
      return "json";
    case Kind::json_schema:
      return "schema";
    case Kind::regex:
      return "regex";
    case Kind::choice:
      return "choice";
    case Kind::grammar:
      return "grammar";
    case Kind::structural_tag:
      return "structural tag";
  }
  return "form";
}

std::optional<std::string> refusal(const GrammarSource& source) {
  try {
    check_source(source);
  } catch (const Refused& error) {
    return error.what();
  }
  return std::nullopt;
}

std::optional<std::string> unenforced(std::string_view schema) { return refusal({Kind::json_schema, std::string(schema), true}); }

std::string closed_schema(std::string_view schema) {
  Json json = Json::parse(schema);
  close(json);
  return json.dump();
}

std::string closed_tag(std::string_view tag) {
  Json json = Json::parse(tag);
  close_within(json);
  return json.dump();
}

}  // namespace tessera

#pragma once
// What is refused of a form before it is compiled: more than the caps, and schemas with a part that would not be enforced. Fast and bounded
// for any text.
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "generate/grammar_source.h"

namespace tessera {

namespace grammar_caps {
constexpr size_t kBytes = size_t{64} << 10;
constexpr size_t kTagBytes = size_t{512} << 10;  // a structural tag, which has many schemas
constexpr int kDepth = 16;                       // schemas within schemas
constexpr size_t kObjectProperties = 256;
constexpr size_t kProperties = 1000;  // in all
constexpr size_t kTagProperties = 4000;
constexpr size_t kValues = 1000;       // of an enum, a choice, or alternatives
constexpr int kAlternativesDepth = 7;  // anyOf, oneOf and allOf within each other
constexpr size_t kPatternBytes = 512;
constexpr int kGroupDepth = 16;        // of a pattern
constexpr int kGrammarDepth = 64;      // parentheses
constexpr int64_t kRepeats = 100'000;  // minItems, maxLength, {n} ... : what must be counted
}  // namespace grammar_caps

// "json_schema", "regex" ...
const char* name_of(GrammarSource::Kind kind);

// Why this form is refused, nullopt where it is not: it is no JSON, is beyond a cap, or (json_schema and schemas in a structural tag, where
// it is strict) has a keyword that would not be enforced.
std::optional<std::string> refusal(const GrammarSource& source);

// Why a strict schema of this text would be refused. Who may give a schema that is not strict takes a JSON object in its place then.
std::optional<std::string> unenforced(std::string_view schema);

// The schema with what it leaves open made plain for the compiler, which takes whatever is not named as forbidden: an object that names no
// properties may have any, and an array without `items` any items. An object that names its properties has no others unless it says so.
std::string closed_schema(std::string_view schema);
// The same of every schema in a structural tag.
std::string closed_tag(std::string_view tag);

namespace grammar {

// The first keyword of this schema (not of those within it) that would not be enforced, and why; nullopt where there is none.
std::optional<std::string> unenforced_keyword(const JsonObject& schema);

}  // namespace grammar
}  // namespace tessera

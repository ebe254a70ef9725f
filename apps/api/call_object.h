#pragma once
#include <cstdint>
#include <string>
#include <utility>

namespace tessera::api {

// A tool call's JSON, a character at a time: {"name": "f", "arguments": {...}}, its fields in any order, "parameters" as arguments' other
// name. Of values, only where they end is looked for: the arguments are the text as it came.
class CallObject {
 public:
  enum class Verdict { more, done, malformed };

  CallObject() = default;
  // The arguments of this function alone.
  explicit CallObject(std::string name) : at_(At::value), field_(Field::arguments), name_(std::move(name)), alone_(true) {}

  // The character that makes it malformed, and those behind, are not of the call.
  Verdict push(char c);
  // The name is known, and the arguments have begun.
  bool begun() const { return !name_.empty() && seen_arguments_; }
  const std::string& name() const { return name_; }
  // What has come of the arguments since the last time.
  std::string take_arguments() { return std::exchange(arguments_, ""); }

 private:
  enum class At { object, first_key, key, in_key, colon, value, in_text, in_nested, in_scalar, behind };
  enum class Field { name, arguments, other };

  Verdict begin_value(char c);
  Verdict push_value(char c);
  Verdict end();

  At at_ = At::object;
  Field field_ = Field::other;
  std::string key_;  // also the text of a name, with its quotes
  std::string name_, arguments_;
  bool alone_ = false, seen_arguments_ = false;
  bool quoted_ = false, escaped_ = false;  // within a value
  int64_t depth_ = 0;
};

}  // namespace tessera::api

#include "api/call_object.h"

#include <nlohmann/json.hpp>

namespace tessera::api {
namespace {

using Verdict = CallObject::Verdict;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool is_scalar(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '+' || c == '-' || c == '.'; }
Verdict expected(bool it) { return it ? Verdict::more : Verdict::malformed; }

// Of a JSON text with its quotes; empty where it is none.
std::string unquoted(const std::string& text) {
  const auto read = nlohmann::json::parse(text, nullptr, false);
  return read.is_string() ? read.get<std::string>() : "";
}

}  // namespace

Verdict CallObject::push(char c) {
  switch (at_) {
    case At::object:
      if (c == '{') at_ = At::first_key;
      return expected(c == '{' || is_space(c));
    case At::first_key:
      if (c == '}') return end();
      [[fallthrough]];
    case At::key:
      if (c == '"') at_ = At::in_key;
      return expected(c == '"' || is_space(c));
    case At::in_key:
      if (c != '"') {
        key_ += c;
        return expected(c != '\\');
      }
      field_ = key_ == "name" ? Field::name : key_ == "arguments" || key_ == "parameters" ? Field::arguments : Field::other;
      key_.clear();
      at_ = At::colon;
      return Verdict::more;
    case At::colon:
      if (c == ':') at_ = At::value;
      return expected(c == ':' || is_space(c));
    case At::value:
      return is_space(c) ? Verdict::more : begin_value(c);
    case At::in_text:
    case At::in_nested:
      return push_value(c);
    case At::in_scalar:
      if (is_scalar(c)) return Verdict::more;
      at_ = At::behind;
      [[fallthrough]];
    case At::behind:
      if (c == '}') return end();
      if (c == ',') at_ = At::key;
      return expected(c == ',' || is_space(c));
  }
  return Verdict::malformed;
}

Verdict CallObject::begin_value(char c) {
  const bool is_text = c == '"', is_nested = c == '{' || c == '[';
  if (field_ == Field::name && (!is_text || !name_.empty())) return Verdict::malformed;
  if (field_ == Field::arguments) {
    if (c != '{' || seen_arguments_) return Verdict::malformed;
    seen_arguments_ = true;
  }
  at_ = is_text ? At::in_text : is_nested ? At::in_nested : At::in_scalar;
  return is_text || is_nested ? push_value(c) : expected(is_scalar(c));
}

Verdict CallObject::push_value(char c) {
  if (field_ == Field::name) key_ += c;
  if (field_ == Field::arguments) arguments_ += c;
  if (c == '"' && !escaped_) quoted_ = !quoted_;
  escaped_ = quoted_ && c == '\\' && !escaped_;
  if (!quoted_) depth_ += (c == '{' || c == '[') - (c == '}' || c == ']');
  if (quoted_ || depth_ > 0) return Verdict::more;
  at_ = At::behind;
  if (field_ == Field::name) {
    name_ = unquoted(std::exchange(key_, ""));
    return expected(!name_.empty());
  }
  return alone_ ? Verdict::done : Verdict::more;
}

Verdict CallObject::end() {
  if (!std::exchange(seen_arguments_, true)) arguments_ = "{}";
  return name_.empty() ? Verdict::malformed : Verdict::done;
}

}  // namespace tessera::api

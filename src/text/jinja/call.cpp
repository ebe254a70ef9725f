#include "text/fields.h"
#include "text/jinja/interpreter.h"

namespace tessera::jinja {

const Value* Call::take(std::string_view name) {
  if (taken_ < arguments_.positional.size()) return &arguments_.positional[taken_++];
  return take_named(name);
}

const Value* Call::take_named(std::string_view name) {
  for (auto& [known, value] : arguments_.named)
    if (known == name) {
      known.clear();  // taken
      return &value;
    }
  return nullptr;
}

Value Call::required(std::string_view name) {
  const Value* given = take(name);
  if (!given) refuse("the argument ", text::quoted(name), " is missing");
  return *given;
}

int64_t Call::integer(std::string_view name, int64_t if_absent) {
  const Value* given = take(name);
  if (!given) return if_absent;
  if (!given->integer()) refuse("the argument ", text::quoted(name), " is ", given->type(), ", no integer");
  return *given->integer();
}

bool Call::flag(std::string_view name, bool if_absent) {
  const Value* given = take(name);
  return given ? given->truth() : if_absent;
}

Text Call::string(std::string_view name, std::string_view if_absent) {
  const Value* given = take(name);
  if (!given) return Text(if_absent, Origin::template_text);
  if (!given->text()) refuse("the argument ", text::quoted(name), " is ", given->type(), ", no text");
  return *given->text();
}

std::vector<Value> Call::rest() {
  std::vector<Value> values(arguments_.positional.begin() + taken_, arguments_.positional.end());
  taken_ = arguments_.positional.size();
  return values;
}

std::vector<std::pair<std::string, Value>> Call::rest_named() {
  std::vector<std::pair<std::string, Value>> values;
  for (auto& [name, value] : arguments_.named)
    if (!name.empty()) values.emplace_back(std::exchange(name, ""), value);
  return values;
}

void Call::finish() {
  if (taken_ < arguments_.positional.size()) refuse(arguments_.positional.size(), " arguments are given; at most ", taken_, " are taken");
  for (const auto& [name, value] : arguments_.named)
    if (!name.empty()) refuse("there is no argument ", text::quoted(name));
}

}  // namespace tessera::jinja

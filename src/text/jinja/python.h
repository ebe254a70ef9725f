#pragma once
// What Python's own functions and operators make of values: str, repr, json.dumps, ==, <, in, +, %.
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/interpreter.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

std::string repr(double value);
void append_str(Builder& out, const Value& value);
void append_repr(Builder& out, const Value& value);
Value to_text(Meter& meter, const Value& value);  // str

struct JsonOptions {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<Text> indent;  // nullopt: all in one line
  Text item_separator{", ", Origin::template_text}, key_separator{": ", Origin::template_text};
};
void append_json(Builder& out, const Value& value, const JsonOptions& options);

bool equal(Meter& meter, const Value& left, const Value& right);
// Less than 0, 0, more than 0; a NaN is neither less nor equal nor more: nullopt. Refuses what Python does not order.
std::optional<int> order(Meter& meter, const Value& left, const Value& right);
bool contains(Meter& meter, const Value& container, const Value& item);
const Value* find(Meter& meter, const Dict& dict, const Value& key);

// The items that a loop over the value gives; takes a generator's.
std::shared_ptr<const List> iterate(Meter& meter, const Value& value);
size_t length(Meter& meter, const Value& value);

Value arithmetic(Meter& meter, std::string_view oper, const Value& left, const Value& right);
Value negative(Meter& meter, const Value& value);
// value[start:stop:step]; nullopt is a bound that is not given.
Value slice(Meter& meter, const Value& value, std::optional<int64_t> start, std::optional<int64_t> stop, std::optional<int64_t> step);
// value[index] of a list or text; nothing outside of it.
std::optional<Value> at_index(Meter& meter, const Value& value, int64_t index);

// "..." % values, and "...".format(arguments).
Value percent_format(Meter& meter, const Text& format, const Value& values);
Value brace_format(Meter& meter, const Text& format, const Arguments& arguments);

Value escape_html(Meter& meter, const Text& text);  // marked as safe

}  // namespace tessera::jinja

#pragma once
// The tables of filters, tests, methods and functions.
#include <optional>
#include <string_view>

#include "text/jinja/interpreter.h"

namespace tessera::jinja {

using Builtin = Value (*)(Call&);  // the call's subject: what a filter or test is applied to, whose method is called

// Null for an unknown name.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);
Builtin find_function(std::string_view name);

// An attribute that Python's str, list or dict has: a method bound to the value, or for one that the sandbox or we don't have, an undefined
// value or a method that refuses. Nothing where Python has no such attribute.
std::optional<Value> find_method(Meter& meter, const Value& value, std::string_view name);

}  // namespace tessera::jinja

#pragma once
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace tessera::jinja {

// A JSON document as Python's json.loads gives it; keys keep their order, and of a key that stands twice the last value counts. Its texts,
// digits and brackets are a person's. Throws std::invalid_argument, beginning with `source`, for what is no JSON, nested more than
// Value::kMostLevels levels deep, or holds an integer of more than 64 bits.
Value parse_json(std::string_view json, const std::string& source);

}  // namespace tessera::jinja

#pragma once
#include <string>

#include "core/json.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

// A value of parse_json's, which refuses texts that are no UTF-8, as Python's json.loads gives it; keys keep their order. Its texts, digits
// and brackets are a person's. Throws FileError, beginning with `source`, for what a template cannot hold: more than Value::kMostLevels
// levels, more than Dict::kMostItems fields, an integer beyond int64_t.
Value from_json(JsonValue json, const std::string& source);

}  // namespace tessera::jinja

#pragma once
#include <string>
#include <string_view>

#include "text/jinja/ast.h"

namespace tessera::jinja {

// A template's tree, with Jinja's grammar and the tags of transformers: loop controls and {% generation %}. `name` begins every message
// ("chat template, line 3, column 7: ..."). Throws FileError for what is malformed, not supported or nested too deep.
Block parse(std::string_view source, const std::string& name);

}  // namespace tessera::jinja

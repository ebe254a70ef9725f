#pragma once
#include <string>
#include <string_view>

#include "cli/cli_main.h"

namespace tessera {

// Text that may hold foreign bytes (a path, a name out of a file), fit for a terminal: one line of valid UTF-8 in which control characters,
// line and paragraph separators and those that turn the direction of text are written as \u{...}, bytes that are no UTF-8 as \x...
std::string one_line(std::string_view text);

}  // namespace tessera

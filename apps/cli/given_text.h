#pragma once
#include <string>
#include <string_view>

namespace tessera {

// The text of a file, a pipe or a device, or of standard input for "-", at most 64 MiB; a byte-order mark is left out and told of. Throws
// FileError when it cannot be read or is longer, std::invalid_argument when it is not UTF-8, naming what it is or the byte.
std::string read_given_text(const std::string& path);

// Throws std::invalid_argument unless a text is UTF-8, naming what it is or the byte; `name` begins the message.
void expect_utf8(std::string_view text, std::string_view name);

// Leaves a byte-order mark at a text's beginning out, and tells of it.
void drop_byte_order_mark(std::string& text, std::string_view name);

}  // namespace tessera

#pragma once
// The byte-level alphabet of GPT-2's tokenizer: every byte as one printable character. The bytes ! to ~, U+00A1 to U+00AC and U+00AE to
// U+00FF stand for themselves; the other 68, in order, are U+0100 and up.
#include <string>
#include <string_view>

namespace tessera::text {

// Appends each byte of `bytes` as its character.
void append_byte_letters(std::string& text, std::string_view bytes);

// The bytes that `letters` stands for; when any of its characters stands for none, its own bytes.
std::string bytes_of_letters(std::string_view letters);

}  // namespace tessera::text

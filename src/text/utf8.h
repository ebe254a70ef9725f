#pragma once
// UTF-8 as the Unicode standard defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#include <cstddef>
#include <string>
#include <string_view>

namespace tessera::text {

// One decoded character. When `valid` is false, `bytes` are those that the standard replaces by one U+FFFD (its "maximal subpart").
struct Utf8Character {
  char32_t code_point;
  size_t bytes;
  bool valid;
  bool cut;  // not valid, but more bytes might have made it valid: the text ends inside a character
};

// The character at the beginning of `text`, which is not empty.
Utf8Character first_character(std::string_view text);

// The offset of the first byte that belongs to no character, or npos.
size_t find_invalid_utf8(std::string_view text);

void append_utf8(std::string& text, char32_t code_point);
std::string to_utf8(char32_t code_point);

// Bytes of the character that begins with `lead`, in valid UTF-8.
inline size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Appends `bytes` with every maximal invalid subpart replaced by U+FFFD; a character cut by the end is replaced as well, or kept (left
// out). Returns how many bytes were consumed.
enum class Cut { keep, replace };
size_t append_lossy_utf8(std::string& text, std::string_view bytes, Cut cut);

// Unicode's White_Space property.
bool is_white_space(char32_t code_point);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace tessera::text

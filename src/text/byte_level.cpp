#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr char32_t kLetters = 0x144;  // one more than the last character in use

struct Alphabet {
  std::array<std::string, 256> letter;
  std::array<int, kLetters> byte;

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t value = 0; value < 256; ++value) {
      const bool is_printable = (value >= 0x21 && value <= 0x7E) || (value >= 0xA1 && value <= 0xAC) || value >= 0xAE;
      const char32_t code_point = is_printable ? value : next++;
      letter[value] = to_utf8(code_point);
      byte[code_point] = static_cast<int>(value);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

void append_byte_letters(std::string& text, std::string_view bytes) {
  for (const char byte : bytes) text += alphabet().letter[static_cast<unsigned char>(byte)];
}

std::string bytes_of_letters(std::string_view letters) {
  std::string bytes;
  for (size_t at = 0; at < letters.size();) {
    const Utf8Character character = first_character(letters.substr(at));
    const int byte = character.code_point < kLetters ? alphabet().byte[character.code_point] : -1;
    if (byte < 0) return std::string(letters);
    bytes += static_cast<char>(byte);
    at += character.bytes;
  }
  return bytes;
}

}  // namespace tessera::text

#include "cli/messages.h"

#include <iostream>
#include <sstream>

#include "text/utf8.h"

namespace tessera {
namespace {

bool is_unfit(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

std::string one_line(std::string_view text) {
  std::ostringstream line;
  line << std::hex;
  while (!text.empty()) {
    const text::Utf8Character character = text::first_character(text);
    const std::string_view bytes = text.substr(0, character.bytes);
    if (!character.valid) {
      for (const char byte : bytes) line << "\\x" << static_cast<unsigned>(static_cast<unsigned char>(byte));
    } else if (is_unfit(character.code_point)) {
      line << "\\u{" << static_cast<uint32_t>(character.code_point) << '}';
    } else {
      line << bytes;
    }
    text.remove_prefix(bytes.size());
  }
  return line.str();
}

void tell(std::string_view text) { std::cerr << "tessera: " + one_line(text) + '\n'; }

}  // namespace tessera

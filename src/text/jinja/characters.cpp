#include "text/jinja/characters.h"

#include <utf8proc.h>

#include "text/utf8.h"

namespace tessera::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

bool is_space(char32_t c) { return text::is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_letter(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_upper(char32_t c) { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)); }
bool is_lower(char32_t c) { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)); }

std::string in_case(char32_t c, Case wanted) {
  const auto one = static_cast<utf8proc_int32_t>(c);
  if (c == 0xDF && wanted != Case::lower) return wanted == Case::upper ? "SS" : "Ss";
  const utf8proc_int32_t other = wanted == Case::upper   ? utf8proc_toupper(one)
                                 : wanted == Case::lower ? utf8proc_tolower(one)
                                                         : utf8proc_totitle(one);
  return text::to_utf8(static_cast<char32_t>(other));
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t byte_of(std::string_view text, size_t character) {
  size_t at = 0;
  for (; character > 0 && at < text.size(); --character) at += text::utf8_length(text[at]);
  return at;
}

std::string_view trim_left(std::string_view text) {
  while (!text.empty()) {
    const text::Utf8Character c = text::first_character(text);
    if (!is_space(c.code_point)) break;
    text.remove_prefix(c.bytes);
  }
  return text;
}

std::string_view trim_right(std::string_view text) {
  while (!text.empty()) {
    const size_t last = last_character(text);
    if (!is_space(text::first_character(text.substr(last)).code_point)) break;
    text = text.substr(0, last);
  }
  return text;
}

}  // namespace tessera::jinja

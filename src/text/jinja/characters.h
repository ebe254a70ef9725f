#pragma once
// Characters as Python's str knows them, over valid UTF-8.
#include <cstddef>
#include <string>
#include <string_view>

namespace tessera::jinja {

bool is_space(char32_t c);      // str.isspace
bool is_printable(char32_t c);  // str.isprintable: what repr shows as it is
bool is_letter(char32_t c);     // str.isalpha
bool is_digit(char32_t c);      // str.isdecimal
bool is_upper(char32_t c);
bool is_lower(char32_t c);

// One character's other case, which may be several characters ("ß" is "SS").
enum class Case { upper, lower, title };
std::string in_case(char32_t c, Case wanted);

size_t count_characters(std::string_view text);
// The byte at which a character begins; text.size() for one past the last.
size_t byte_of(std::string_view text, size_t character);

// The text without white space at an end.
std::string_view trim_left(std::string_view text);
std::string_view trim_right(std::string_view text);

}  // namespace tessera::jinja

#pragma once
// Python's methods of str, over texts that keep their origin.
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/characters.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

// Bytes [begin, end) of a text.
struct Slice {
  size_t begin, end;
};

enum class Side { left, right, both };
enum class Align { left, center, right };

// Without the characters at its ends; nullopt: white space.
Value stripped(Meter& meter, const Text& text, std::optional<std::string_view> characters, Side side);
// Cut at `separator`, or where it is nullopt at white space, at most `most` times.
std::vector<Slice> split_text(Meter& meter, std::string_view text, std::optional<std::string_view> separator, size_t most, bool from_right);
std::vector<Slice> split_lines(Meter& meter, std::string_view text, bool keep_ends);
// The first `most` places, all if it is negative.
Value replaced(Meter& meter, const Text& text, std::string_view old, const Text& fresh, int64_t most);
Value aligned(Meter& meter, const Text& text, int64_t width, const Text& fill, Align align);

Value uppered(Meter& meter, const Text& text);
Value lowered(Meter& meter, const Text& text);
Value titled(Meter& meter, const Text& text);       // str.title
Value capitalized(Meter& meter, const Text& text);  // str.capitalize
// str.islower, str.isupper
bool is_in_case(std::string_view text, Case wanted);

}  // namespace tessera::jinja

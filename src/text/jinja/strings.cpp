#include "text/jinja/strings.h"

#include <algorithm>
#include <string>

#include "text/utf8.h"

namespace tessera::jinja {
namespace {

// Each character in the case that `choose` gives for it.
template <class Choose>
Value in_cases(Meter& meter, const Text& text, const Choose& choose) {
  Builder out(meter);
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Character c = text::first_character(text.view().substr(at));
    out.append(in_case(c.code_point, choose(c.code_point)), text.origin_at(at));
    at += c.bytes;
  }
  return out.finish();
}

bool is_line_end(char32_t c) { return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029; }

// Of what a split gives, each part is to become a value.
void add(Meter& meter, std::vector<Slice>& parts, Slice part) {
  meter.expect(sizeof(Value) + sizeof(Text), parts.size() + 1);
  parts.push_back(part);
}

// What stands between runs of white space.
std::vector<Slice> words(Meter& meter, std::string_view text) {
  std::vector<Slice> words;
  for (size_t at = 0, begin = 0; at <= text.size();) {
    const bool ends = at == text.size();
    const text::Utf8Character c = ends ? text::Utf8Character{} : text::first_character(text.substr(at));
    if (ends || is_space(c.code_point)) {
      if (begin < at) add(meter, words, {begin, at});
      begin = at + c.bytes;
    }
    if (ends) break;
    at += c.bytes;
  }
  return words;
}

}  // namespace

Value stripped(Meter& meter, const Text& text, std::optional<std::string_view> characters, Side side) {
  meter.spend_for(text.size() * (1 + (characters ? characters->size() : 0)));
  std::string_view rest = text.view();
  size_t begin = 0;
  if (!characters) {
    if (side != Side::right) begin = rest.size() - trim_left(rest).size();
    rest.remove_prefix(begin);
    if (side != Side::left) rest = trim_right(rest);
    return make_text(meter, text.part(begin, begin + rest.size()));
  }
  const auto is_taken = [&](std::string_view character) { return characters->find(character) != characters->npos; };
  while (side != Side::right && !rest.empty()) {
    const size_t bytes = text::utf8_length(rest[0]);
    if (!is_taken(rest.substr(0, bytes))) break;
    rest.remove_prefix(bytes);
    begin += bytes;
  }
  while (side != Side::left && !rest.empty()) {
    size_t last = rest.size() - 1;
    while ((static_cast<unsigned char>(rest[last]) & 0xC0) == 0x80) --last;
    if (!is_taken(rest.substr(last))) break;
    rest = rest.substr(0, last);
  }
  return make_text(meter, text.part(begin, begin + rest.size()));
}

std::vector<Slice> split_text(Meter& meter, std::string_view text, std::optional<std::string_view> separator, size_t most,
                              bool from_right) {
  meter.spend_for(text.size());
  std::vector<Slice> parts;
  if (!separator) {
    parts = words(meter, text);
    if (parts.size() <= most) return parts;
    // The words beyond the limit stay together, with the white space between them and up to the text's other end.
    if (from_right) {
      parts.erase(parts.begin(), parts.end() - most - 1);
      parts[0].begin = 0;
    } else {
      parts.resize(most + 1);
      parts.back().end = text.size();
    }
    return parts;
  }
  if (from_right) {
    size_t end = text.size();
    while (parts.size() < most && end >= separator->size()) {
      const size_t found = text.substr(0, end).rfind(*separator);
      if (found == text.npos) break;
      add(meter, parts, {found + separator->size(), end});
      end = found;
    }
    add(meter, parts, {0, end});
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (parts.size() < most) {
    const size_t found = text.find(*separator, begin);
    if (found == text.npos) break;
    add(meter, parts, {begin, found});
    begin = found + separator->size();
  }
  add(meter, parts, {begin, text.size()});
  return parts;
}

std::vector<Slice> split_lines(Meter& meter, std::string_view text, bool keep_ends) {
  meter.spend_for(text.size());
  std::vector<Slice> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Character c = text::first_character(text.substr(at));
    size_t next = at + c.bytes;
    if (is_line_end(c.code_point)) {
      if (c.code_point == '\r' && next < text.size() && text[next] == '\n') ++next;
      add(meter, lines, {begin, keep_ends ? next : at});
      begin = next;
    }
    at = next;
  }
  if (begin < text.size()) add(meter, lines, {begin, text.size()});
  return lines;
}

Value replaced(Meter& meter, const Text& text, std::string_view old, const Text& fresh, int64_t most) {
  meter.spend_for(text.size());
  Builder out(meter);
  size_t left = most < 0 ? text.size() + 1 : static_cast<size_t>(most), at = 0;
  if (old.empty()) {  // before every character, and at the end
    while (at < text.size() && left > 0) {
      const size_t bytes = text::utf8_length(text.view()[at]);
      out.append(fresh);
      out.append(text, at, at + bytes);
      at += bytes;
      --left;
    }
    if (left > 0) out.append(fresh);
  } else {
    for (size_t found; left > 0 && (found = text.view().find(old, at)) != std::string_view::npos; --left) {
      out.append(text, at, found);
      out.append(fresh);
      at = found + old.size();
    }
  }
  out.append(text, at, text.size());
  return out.finish();
}

Value aligned(Meter& meter, const Text& text, int64_t width, const Text& fill, Align align) {
  if (count_characters(fill.view()) != 1) meter.refuse("the fill must be one character");
  const auto count = static_cast<int64_t>(count_characters(text.view()));
  const int64_t missing = std::max<int64_t>(width - count, 0);
  int64_t before = align == Align::right ? missing : 0;
  if (align == Align::center) before = missing / 2 + (missing & width & 1);
  meter.expect(1, static_cast<size_t>(missing));
  Builder out(meter);
  for (int64_t i = 0; i < before; ++i) out.append(fill);
  out.append(text);
  for (int64_t i = before; i < missing; ++i) out.append(fill);
  return out.finish();
}

Value uppered(Meter& meter, const Text& text) {
  return in_cases(meter, text, [](char32_t) { return Case::upper; });
}

Value lowered(Meter& meter, const Text& text) {
  return in_cases(meter, text, [](char32_t) { return Case::lower; });
}

Value titled(Meter& meter, const Text& text) {
  bool follows = false;  // a cased letter
  return in_cases(meter, text, [&](char32_t c) { return std::exchange(follows, is_upper(c) || is_lower(c)) ? Case::lower : Case::title; });
}

Value capitalized(Meter& meter, const Text& text) {
  bool first = true;
  return in_cases(meter, text, [&](char32_t) { return std::exchange(first, false) ? Case::title : Case::lower; });
}

bool is_in_case(std::string_view text, Case wanted) {
  bool has_letter = false;
  while (!text.empty()) {
    const text::Utf8Character c = text::first_character(text);
    if (wanted == Case::lower ? is_upper(c.code_point) : is_lower(c.code_point)) return false;
    has_letter = has_letter || is_upper(c.code_point) || is_lower(c.code_point);
    text.remove_prefix(c.bytes);
  }
  return has_letter;
}

}  // namespace tessera::jinja

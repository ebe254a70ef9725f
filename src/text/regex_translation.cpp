#include <array>
#include <cstdint>

#include "core/error.h"
#include "text/fields.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

struct NewCharacters {
  char category[3];
  char32_t first, last;
};

// Characters that Unicode 15, 15.1 and 16 added, by general category: PCRE2 10.42 knows Unicode 14, the `tokenizers` library Unicode 16.
constexpr NewCharacters kNewCharacters[] = {
    {"Lu", 0x1C89, 0x1C89},   {"Lu", 0xA7CB, 0xA7CC},   {"Lu", 0xA7DA, 0xA7DA},   {"Lu", 0xA7DC, 0xA7DC},   {"Lu", 0x10D50, 0x10D65},
    {"Ll", 0x1C8A, 0x1C8A},   {"Ll", 0xA7CD, 0xA7CD},   {"Ll", 0xA7DB, 0xA7DB},   {"Ll", 0x10D70, 0x10D85}, {"Ll", 0x1DF25, 0x1DF2A},
    {"Lm", 0x10D4E, 0x10D4E}, {"Lm", 0x10D6F, 0x10D6F}, {"Lm", 0x16D40, 0x16D42}, {"Lm", 0x16D6B, 0x16D6C}, {"Lm", 0x1E030, 0x1E06D},
    {"Lm", 0x1E4EB, 0x1E4EB}, {"Lo", 0x105C0, 0x105F3}, {"Lo", 0x10D4A, 0x10D4D}, {"Lo", 0x10D4F, 0x10D4F}, {"Lo", 0x10EC2, 0x10EC4},
    {"Lo", 0x1123F, 0x11240}, {"Lo", 0x11380, 0x11389}, {"Lo", 0x1138B, 0x1138B}, {"Lo", 0x1138E, 0x1138E}, {"Lo", 0x11390, 0x113B5},
    {"Lo", 0x113B7, 0x113B7}, {"Lo", 0x113D1, 0x113D1}, {"Lo", 0x113D3, 0x113D3}, {"Lo", 0x11BC0, 0x11BE0}, {"Lo", 0x11F02, 0x11F02},
    {"Lo", 0x11F04, 0x11F10}, {"Lo", 0x11F12, 0x11F33}, {"Lo", 0x1342F, 0x1342F}, {"Lo", 0x13441, 0x13446}, {"Lo", 0x13460, 0x143FA},
    {"Lo", 0x16100, 0x1611D}, {"Lo", 0x16D43, 0x16D6A}, {"Lo", 0x18CFF, 0x18CFF}, {"Lo", 0x1B132, 0x1B132}, {"Lo", 0x1B155, 0x1B155},
    {"Lo", 0x1E4D0, 0x1E4EA}, {"Lo", 0x1E5D0, 0x1E5ED}, {"Lo", 0x1E5F0, 0x1E5F0}, {"Lo", 0x2B739, 0x2B739}, {"Lo", 0x2EBF0, 0x2EE5D},
    {"Lo", 0x31350, 0x323AF}, {"Mn", 0x897, 0x897},     {"Mn", 0xECE, 0xECE},     {"Mn", 0x10D69, 0x10D6D}, {"Mn", 0x10EFC, 0x10EFF},
    {"Mn", 0x11241, 0x11241}, {"Mn", 0x113BB, 0x113C0}, {"Mn", 0x113CE, 0x113CE}, {"Mn", 0x113D0, 0x113D0}, {"Mn", 0x113D2, 0x113D2},
    {"Mn", 0x113E1, 0x113E2}, {"Mn", 0x11F00, 0x11F01}, {"Mn", 0x11F36, 0x11F3A}, {"Mn", 0x11F40, 0x11F40}, {"Mn", 0x11F42, 0x11F42},
    {"Mn", 0x11F5A, 0x11F5A}, {"Mn", 0x13440, 0x13440}, {"Mn", 0x13447, 0x13455}, {"Mn", 0x1611E, 0x16129}, {"Mn", 0x1612D, 0x1612F},
    {"Mn", 0x1E08F, 0x1E08F}, {"Mn", 0x1E4EC, 0x1E4EF}, {"Mn", 0x1E5EE, 0x1E5EF}, {"Mc", 0xCF3, 0xCF3},     {"Mc", 0x113B8, 0x113BA},
    {"Mc", 0x113C2, 0x113C2}, {"Mc", 0x113C5, 0x113C5}, {"Mc", 0x113C7, 0x113CA}, {"Mc", 0x113CC, 0x113CD}, {"Mc", 0x113CF, 0x113CF},
    {"Mc", 0x11F03, 0x11F03}, {"Mc", 0x11F34, 0x11F35}, {"Mc", 0x11F3E, 0x11F3F}, {"Mc", 0x11F41, 0x11F41}, {"Mc", 0x1612A, 0x1612C},
    {"Nd", 0x10D40, 0x10D49}, {"Nd", 0x116D0, 0x116E3}, {"Nd", 0x11BF0, 0x11BF9}, {"Nd", 0x11F50, 0x11F59}, {"Nd", 0x16130, 0x16139},
    {"Nd", 0x16D70, 0x16D79}, {"Nd", 0x1CCF0, 0x1CCF9}, {"Nd", 0x1E4F0, 0x1E4F9}, {"Nd", 0x1E5F1, 0x1E5FA}, {"No", 0x1D2C0, 0x1D2D3},
    {"Pd", 0x10D6E, 0x10D6E}, {"Po", 0x1B4E, 0x1B4F},   {"Po", 0x1B7F, 0x1B7F},   {"Po", 0x113D4, 0x113D5}, {"Po", 0x113D7, 0x113D8},
    {"Po", 0x11B00, 0x11B09}, {"Po", 0x11BE1, 0x11BE1}, {"Po", 0x11F43, 0x11F4F}, {"Po", 0x16D6D, 0x16D6F}, {"Po", 0x1E5FF, 0x1E5FF},
    {"Sm", 0x10D8E, 0x10D8F}, {"So", 0x2427, 0x2429},   {"So", 0x2FFC, 0x2FFF},   {"So", 0x31E4, 0x31E5},   {"So", 0x31EF, 0x31EF},
    {"So", 0x1CC00, 0x1CCEF}, {"So", 0x1CD00, 0x1CEB3}, {"So", 0x1F6DC, 0x1F6DC}, {"So", 0x1F774, 0x1F776}, {"So", 0x1F77B, 0x1F77F},
    {"So", 0x1F7D9, 0x1F7D9}, {"So", 0x1F8B2, 0x1F8BB}, {"So", 0x1F8C0, 0x1F8C1}, {"So", 0x1FA75, 0x1FA77}, {"So", 0x1FA87, 0x1FA89},
    {"So", 0x1FA8F, 0x1FA8F}, {"So", 0x1FAAD, 0x1FAAF}, {"So", 0x1FABB, 0x1FABF}, {"So", 0x1FAC6, 0x1FAC6}, {"So", 0x1FACE, 0x1FACF},
    {"So", 0x1FADA, 0x1FADC}, {"So", 0x1FADF, 0x1FADF}, {"So", 0x1FAE8, 0x1FAE9}, {"So", 0x1FAF7, 0x1FAF8}, {"So", 0x1FBCB, 0x1FBEF},
    {"Cf", 0x13439, 0x1343F},
};

bool is_general_category(std::string_view name) {
  constexpr std::string_view kAll =
      " C Cc Cf Cn Co L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs ";
  return name.find(' ') == std::string_view::npos && kAll.find(message(' ', name, ' ')) != std::string_view::npos;
}

bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translation {
 public:
  Translation(std::string_view pattern, const std::string& path) : pattern_(pattern), path_(path) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      switch (pattern_[at_]) {
        case '\\':
          escape(Place::outside);
          break;
        case '[':
          character_class();
          break;
        case '(':
          group();
          break;
        case '{':
          braces();
          break;
        default:
          copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  enum class Place { outside, in_class };

  [[noreturn]] void refuse(std::string_view what) const {
    fail<FileError>(path_, ": regular expression ", quoted(pattern_), ": ", quoted(what), " at byte ", at_, " is not supported");
  }

  std::string_view rest() const { return pattern_.substr(at_); }
  void copy(size_t bytes) {
    out_ += rest().substr(0, bytes);
    at_ += bytes;
  }
  void replace(size_t bytes, std::string_view text) {
    out_ += text;
    at_ += bytes;
  }

  void escape(Place place) {
    if (rest().size() < 2) refuse(rest());
    const char c = pattern_[at_ + 1];
    switch (c) {
      case 's':  // PCRE2's \s has U+180E too, which has not been white space since Unicode 6.3
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return category(2, "Nd", Negated::no, place);
      case 'D':
        return category(2, "Nd", Negated::yes, place);
      case 'v':  // one character in Ruby's syntax, a class in PCRE2's
        return replace(2, "\\x0b");
      case 'p':
      case 'P':
        return property(place);
      case 'x':
        if (!rest().starts_with("\\x{")) refuse(rest().substr(0, 4));
        return copy(3);
      case 'A':
      case 'z':
        if (place == Place::in_class) refuse(rest().substr(0, 2));
        return copy(2);
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      default:
        if (is_alphanumeric(c)) refuse(rest().substr(0, 2));
        if (static_cast<unsigned char>(c) >= 0x80) return replace(1, "");  // an escaped character beyond ASCII is itself
        return copy(2);
    }
  }

  enum class Negated { no, yes };

  // \p{Name}, \P{Name}, \p{^Name}
  void property(Place place) {
    const size_t close = rest().find('}');
    if (rest().size() < 5 || rest()[2] != '{' || close == std::string_view::npos) refuse(rest().substr(0, 3));
    const bool caret = rest()[3] == '^';
    const std::string_view name = rest().substr(3 + caret, close - 3 - caret);
    const bool is_negated = (rest()[1] == 'P') != caret;
    if (is_general_category(name)) return category(close + 1, name, is_negated ? Negated::yes : Negated::no, place);
    for (const char c : name)
      if (!is_alphanumeric(c) && c != '_') refuse(rest().substr(0, close + 1));
    // A script: PCRE2's bare \p{Han} means the script's extensions as well.
    replace(close + 1, message(is_negated ? "\\P{sc:" : "\\p{sc:", name, "}"));
  }

  void category(size_t bytes, std::string_view name, Negated negated, Place place) {
    std::string members;
    for (const NewCharacters& added : kNewCharacters)
      if (std::string_view(added.category).starts_with(name))
        members += message("\\x{", std::hex, +added.first, "}-\\x{", +added.last, "}");
    if (members.empty()) return replace(bytes, message(negated == Negated::yes ? "\\P{" : "\\p{", name, "}"));
    if (place == Place::outside) return replace(bytes, message(negated == Negated::yes ? "[^" : "[", "\\p{", name, "}", members, "]"));
    if (negated == Negated::yes) refuse(rest().substr(0, bytes));
    replace(bytes, message("\\p{", name, "}", members));
  }

  void character_class() {
    copy(rest().starts_with("[^") ? 2 : 1);
    if (rest().starts_with("]")) refuse("[]");
    while (!rest().starts_with("]")) {
      if (rest().empty()) return;  // PCRE2 tells that the class is not closed
      if (rest().starts_with("[")) refuse("[ within [ ]");
      if (rest().starts_with("&&")) refuse("&&");
      if (rest().starts_with("\\")) {
        escape(Place::in_class);
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  void group() {
    if (rest().starts_with("(*")) refuse("(*");
    if (!rest().starts_with("(?")) return copy(1);
    for (const std::string_view opening : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
      if (rest().starts_with(opening)) return copy(opening.size());
    if (at_ == 0 && rest().starts_with("(?i)")) return copy(4);
    refuse(rest().substr(0, 4));
  }

  // An interval: {n}, {n,} or {n,m}. The two syntaxes read {,m}, a lone brace, and a ? or + after an interval differently.
  void braces() {
    const size_t close = rest().find('}');
    const std::string_view inside = rest().substr(1, close == std::string_view::npos ? std::string_view::npos : close - 1);
    const bool is_interval = close != std::string_view::npos && !inside.empty() && inside[0] != ',' &&
                             inside.find_first_not_of("0123456789,") == std::string_view::npos && inside.find(',') == inside.rfind(',');
    if (!is_interval) refuse(rest().substr(0, 4));
    copy(close + 1);
    if (rest().starts_with("?") || rest().starts_with("+")) refuse(pattern_.substr(0, at_ + 1));
  }

  std::string_view pattern_;
  const std::string& path_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern, const std::string& path) { return Translation(pattern, path).run(); }

}  // namespace tessera::text

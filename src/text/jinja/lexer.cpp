#include "text/jinja/lexer.h"

#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "text/fields.h"
#include "text/jinja/characters.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

using Type = Token::Type;

bool is_name_byte(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }
bool is_digit_byte(char c) { return c >= '0' && c <= '9'; }

// Line ends are \n, and one at the source's end does not count.
std::string normal_lines(std::string_view source) {
  std::string normal;
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\r' && at + 1 < source.size() && source[at + 1] == '\n') continue;
    normal += source[at] == '\r' ? '\n' : source[at];
  }
  if (normal.ends_with('\n')) normal.pop_back();
  return normal;
}

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : name_(name), source_(normal_lines(source)) {}

  std::vector<Token> tokens() {
    while (at_ < source_.size()) data();
    add(Type::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool looking_at(std::string_view text) const { return rest().starts_with(text); }

  template <class... Parts>
  [[noreturn]] void refuse(Place place, const Parts&... parts) const {
    fail<FileError>(name_, ", line ", place.line, ", column ", place.column, ": ", parts...);
  }

  void advance(size_t bytes) {
    for (const size_t end = at_ + bytes; at_ < end; ++at_) {
      if (source_[at_] == '\n') {
        ++place_.line;
        place_.column = 1;
      } else {
        place_.column += (static_cast<unsigned char>(source_[at_]) & 0xC0) != 0x80;
      }
    }
  }

  void skip_space() { advance(rest().size() - trim_left(rest()).size()); }

  void add(Type type, std::string text) { tokens_.push_back({type, place_, std::move(text)}); }

  // The sign behind an opening brace pair.
  char sign_at(size_t at) const { return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0'; }

  // The data before a tag, with the white space taken from its end that the tag's sign or lstrip_blocks takes.
  std::string_view before_tag(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') return trim_right(text);
    if (sign == '+' || is_variable) return text;
    const size_t newline = text.rfind('\n');
    const size_t line = newline == text.npos ? 0 : newline + 1;
    if (newline == text.npos && !line_starts_) return text;
    return trim_left(text.substr(line)).empty() ? text.substr(0, line) : text;
  }

  // Text up to the next tag, and the tag.
  void data() {
    size_t tag = at_;
    while ((tag = source_.find('{', tag)) != source_.npos && (tag + 1 == source_.size() || !std::strchr("{%#", source_[tag + 1]))) ++tag;
    if (tag == source_.npos) {
      add(Type::data, std::string(rest()));
      return advance(rest().size());
    }
    const char kind = source_[tag + 1], sign = sign_at(tag + 2);
    const std::string_view text = before_tag(rest().substr(0, tag - at_), sign, kind == '{');
    if (!text.empty()) add(Type::data, std::string(text));
    advance(tag - at_);
    if (kind == '#') return comment(sign ? 3 : 2);
    if (kind == '%' && raw()) return;
    add(kind == '{' ? Type::variable_begin : Type::block_begin, "");
    const Place begin = place_;
    advance(sign ? 3 : 2);
    inside(kind == '{' ? "}}" : "%}", begin);
  }

  // Takes a tag's end and the white space that belongs to it: with trim_blocks one line's end behind a block or comment.
  bool end_of_tag(std::string_view end) {
    if (looking_at("-") && rest().substr(1).starts_with(end)) {
      advance(1 + end.size());
      skip_space();
    } else if (end != "}}" && looking_at("+") && rest().substr(1).starts_with(end)) {
      advance(1 + end.size());
    } else if (looking_at(end)) {
      advance(end.size());
      if (end != "}}" && looking_at("\n")) advance(1);
    } else {
      return false;
    }
    line_starts_ = source_[at_ - 1] == '\n';
    return true;
  }

  void comment(size_t opening) {
    const Place begin = place_;
    advance(opening);
    const size_t end = rest().find("#}");
    if (end == std::string_view::npos) refuse(begin, "the comment has no end");
    const bool is_signed = end > 0 && (rest()[end - 1] == '-' || rest()[end - 1] == '+');
    advance(end - is_signed);
    end_of_tag("#}");
  }

  // Matches space, a word, space and a tag's end; gives where the tag's end begins.
  std::optional<size_t> word_in_tag(size_t at, std::string_view word) const {
    std::string_view text = trim_left(std::string_view(source_).substr(at));
    if (!text.starts_with(word)) return std::nullopt;
    text = trim_left(text.substr(word.size()));
    const bool is_end = text.starts_with("%}") || text.starts_with("-%}") || (word != "raw" && text.starts_with("+%}"));
    return is_end ? std::optional(source_.size() - text.size()) : std::nullopt;
  }

  bool raw() {
    const Place begin = place_;
    const std::optional<size_t> end = word_in_tag(at_ + 2 + (sign_at(at_ + 2) != '\0'), "raw");
    if (!end) return false;
    advance(*end - at_);
    const bool trims = looking_at("-");
    advance(trims ? 3 : 2);
    if (trims) skip_space();
    line_starts_ = source_[at_ - 1] == '\n';
    for (size_t tag = at_; (tag = source_.find("{%", tag)) != source_.npos; ++tag) {
      const char sign = sign_at(tag + 2);
      const std::optional<size_t> stop = word_in_tag(tag + 2 + (sign != '\0'), "endraw");
      if (!stop) continue;
      const std::string_view text = before_tag(rest().substr(0, tag - at_), sign, false);
      if (!text.empty()) add(Type::data, std::string(text));
      advance(*stop - at_);
      end_of_tag("%}");
      return true;
    }
    refuse(begin, "the raw block has no end");
  }

  void inside(std::string_view end, Place begin) {
    std::string open;  // the brackets that wait for their closing ones
    for (;;) {
      skip_space();
      if (at_ == source_.size()) refuse(begin, "the tag has no end");
      if (open.empty()) {
        const Place place = place_;
        if (end_of_tag(end)) {
          tokens_.push_back({end == "}}" ? Type::variable_end : Type::block_end, place, ""});
          return;
        }
      }
      const char c = source_[at_];
      if (is_digit_byte(c)) {
        number();
      } else if (is_name_byte(c)) {
        size_t bytes = 1;
        while (bytes < rest().size() && is_name_byte(rest()[bytes])) ++bytes;
        add(Type::name, std::string(rest().substr(0, bytes)));
        advance(bytes);
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        oper(open);
      }
    }
  }

  void oper(std::string& open) {
    constexpr std::array<std::string_view, 27> kOperators{"**", "//", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
                                                          "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";", ""};
    for (const std::string_view op : kOperators) {
      if (op.empty()) refuse(place_, "the character ", text::quoted(rest().substr(0, text::utf8_length(rest()[0]))), " is not expected");
      if (!looking_at(op)) continue;
      if (op == "(" || op == "[" || op == "{") open += op == "(" ? ')' : op == "[" ? ']' : '}';
      if (op == ")" || op == "]" || op == "}") {
        if (open.empty() || open.back() != op[0]) refuse(place_, "a '", op, "' without its opening bracket");
        open.pop_back();
      }
      add(Type::op, std::string(op));
      return advance(op.size());
    }
  }

  // Digits with single underscores between them, from `at` on; gives their end.
  size_t digits(size_t at) const {
    while (at < source_.size() &&
           (is_digit_byte(source_[at]) || (source_[at] == '_' && at + 1 < source_.size() && is_digit_byte(source_[at + 1]))))
      ++at;
    return at;
  }

  void number() {
    const bool is_index = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1: no fraction
    size_t end = digits(at_);
    bool is_real = false;
    if (!is_index && end + 1 < source_.size() && source_[end] == '.' && is_digit_byte(source_[end + 1])) {
      is_real = true;
      end = digits(end + 1);
    }
    if (!is_index && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && is_digit_byte(source_[exponent])) {
        is_real = true;
        end = digits(exponent);
      }
    }
    std::string text;
    for (const char c : rest().substr(0, end - at_))
      if (c != '_') text += c;
    Token token{is_real ? Type::real : Type::integer, place_, text};
    const char *const begin = text.data(), *const stop = begin + text.size();
    const auto [read, error] = is_real ? std::from_chars(begin, stop, token.real) : std::from_chars(begin, stop, token.integer);
    if (error != std::errc() || read != stop) refuse(place_, "the number ", text::quoted(text), " is out of range");
    if (end < source_.size() && is_name_byte(source_[end])) refuse(place_, "a number of this form is not supported");
    tokens_.push_back(std::move(token));
    advance(end - at_);
  }

  void string(char quote) {
    const Place begin = place_;
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) refuse(begin, "the string has no end");
    std::string value;
    for (size_t at = at_ + 1; at < end;) {
      if (source_[at] == '\\') {
        at = escape(at, end, value);
      } else {
        value += source_[at++];
      }
    }
    add(Type::string, std::move(value));
    advance(end + 1 - at_);
  }

  // Reads one escape sequence; gives where it ends.
  size_t escape(size_t at, size_t end, std::string& value) const {
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    const char c = source_[at + 1];
    if (const size_t letter = kLetters.find(c); letter != kLetters.npos) {
      value += kMeanings[letter];
      return at + 2;
    }
    if (c == '\n') return at + 2;
    const bool is_octal = c >= '0' && c <= '7';
    const size_t most = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : is_octal ? 3 : 0;
    if (most == 0) {
      if (c == 'N') refuse(place_, "the escape \\N in a string is not supported");
      value += '\\';  // no escape: both characters stand
      return at + 1;
    }
    const size_t first = at + (is_octal ? 1 : 2);
    uint32_t code = 0;
    const char* const stop = source_.data() + std::min(first + most, end);
    const auto [read, error] = std::from_chars(source_.data() + first, stop, code, is_octal ? 8 : 16);
    const size_t bytes = read - (source_.data() + first);
    if (error != std::errc() || (!is_octal && bytes != most) || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
      refuse(place_, "an escape in the string names no character");
    text::append_utf8(value, code);
    return first + bytes;
  }

  const std::string& name_;
  std::string source_;
  size_t at_ = 0;
  Place place_;
  bool line_starts_ = true;  // the data to come begins a line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, const std::string& name) {
  check<FileError>(source.size() <= kMostSourceBytes, name, ": has ", source.size(), " bytes; at most ", kMostSourceBytes,
                   " are supported");
  const size_t invalid = text::find_invalid_utf8(source);
  check<FileError>(invalid == source.npos, name, ": is not valid UTF-8 at byte ", invalid, "; convert it to UTF-8");
  return Lexer(source, name).tokens();
}

}  // namespace tessera::jinja

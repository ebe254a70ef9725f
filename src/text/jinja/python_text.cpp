// str, repr and json.dumps.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja/characters.h"
#include "text/jinja/python.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

constexpr char kHex[] = "0123456789abcdef";

std::string hex(uint32_t value, int digits) {
  std::string text;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) text += kHex[(value >> shift) & 15];
  return text;
}

Origin origin_of(const Value& value) { return value.person ? Origin::person : Origin::template_text; }

std::string number_text(const Value& value) {
  if (const bool* flag = value.as<bool>()) return *flag ? "True" : "False";
  if (const int64_t* number = value.as<int64_t>()) return std::to_string(*number);
  return repr(*value.as<double>());
}

// Goes over the text's characters, and appends of each what `rewrite` makes of it.
template <class Rewrite>
void append_rewritten(Builder& out, const Text& text, const Rewrite& rewrite) {
  size_t plain = 0;  // from here on the characters stand for themselves
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Character c = text::first_character(text.view().substr(at));
    if (const std::string other = rewrite(c.code_point); !other.empty()) {
      out.append(text, plain, at);
      out.append(other, text.origin_at(at));
      plain = at + c.bytes;
    }
    at += c.bytes;
  }
  out.append(text, plain, text.size());
}

void append_quoted(Builder& out, const Text& text) {
  const bool has_single = text.view().find('\'') != std::string_view::npos, has_double = text.view().find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  const Origin origin = text.has_person() ? Origin::person : Origin::template_text;
  out.append({&quote, 1}, origin);
  append_rewritten(out, text, [&](char32_t c) -> std::string {
    if (c == static_cast<char32_t>(quote) || c == '\\') return std::string{'\\', static_cast<char>(c)};
    if (c == '\n') return "\\n";
    if (c == '\r') return "\\r";
    if (c == '\t') return "\\t";
    if (is_printable(c)) return "";
    return c < 0x100 ? "\\x" + hex(c, 2) : c < 0x10000 ? "\\u" + hex(c, 4) : "\\U" + hex(c, 8);
  });
  out.append({&quote, 1}, origin);
}

void append_json_string(Builder& out, const Text& text, bool ensure_ascii) {
  const Origin origin = text.has_person() ? Origin::person : Origin::template_text;
  out.append("\"", origin);
  append_rewritten(out, text, [&](char32_t c) -> std::string {
    constexpr std::string_view kShort = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
    if (const size_t found = c < 0x80 ? kShort.find(static_cast<char>(c)) : kShort.npos; found != kShort.npos)
      return {'\\', kLetters[found]};
    if (c < 0x20) return "\\u" + hex(c, 4);
    if (!ensure_ascii || c < 0x7F) return "";
    if (c == 0x7F) return "";
    if (c < 0x10000) return "\\u" + hex(c, 4);
    return "\\u" + hex(0xD800 + ((c - 0x10000) >> 10), 4) + "\\u" + hex(0xDC00 + ((c - 0x10000) & 0x3FF), 4);
  });
  out.append("\"", origin);
}

std::string json_number(const Value& value) {
  if (const bool* flag = value.as<bool>()) return *flag ? "true" : "false";
  if (const double* number = value.as<double>(); number && !std::isfinite(*number))
    return std::isnan(*number) ? "NaN" : *number > 0 ? "Infinity" : "-Infinity";
  return number_text(value);
}

class JsonWriter {
 public:
  JsonWriter(Builder& out, Meter& meter, const JsonOptions& options) : out_(out), meter_(meter), options_(options) {}

  void write(const Value& value) {
    meter_.spend(1);
    if (const Text* text = value.text()) return append_json_string(out_, *text, options_.ensure_ascii);
    if (value.is_none()) return out_.append("null", origin_of(value));
    if (value.is_number()) return out_.append(json_number(value), origin_of(value));
    if (value.dict()) return write_dict(value);
    const List* list = value.list();
    if (!list || (list->type != List::Type::list && list->type != List::Type::tuple))
      meter_.refuse("an object of type ", value.type(), " is not JSON serializable");
    if (list->items.empty()) return out_.append("[]", origin_of(value));
    begin("[", value);
    for (size_t i = 0; i < list->items.size(); ++i) {
      separate(i, value);
      write(list->items[i]);
    }
    end("]", value);
  }

 private:
  void write_dict(const Value& value) {
    std::vector<std::pair<Value, Value>> sorted;
    const std::vector<std::pair<Value, Value>>* items = &value.dict()->items;
    if (options_.sort_keys) {
      sorted = *items;
      meter_.spend(8 * sorted.size());
      std::stable_sort(sorted.begin(), sorted.end(),
                       [&](const auto& a, const auto& b) { return order(meter_, a.first, b.first).value_or(0) < 0; });
      items = &sorted;
    }
    if (items->empty()) return out_.append("{}", origin_of(value));
    begin("{", value);
    for (size_t i = 0; i < items->size(); ++i) {
      separate(i, value);
      const auto& [key, item] = (*items)[i];
      if (const Text* text = key.text()) {
        append_json_string(out_, *text, options_.ensure_ascii);
      } else if (key.is_number() || key.is_none()) {
        out_.append(message('"', key.is_none() ? "null" : json_number(key), '"'), origin_of(value));
      } else {
        meter_.refuse("keys of JSON must be texts or numbers, not ", key.type());
      }
      append_separator(options_.key_separator, value);
      write(item);
    }
    end("}", value);
  }

  // Between a person's values the separators are a person's too.
  void append_separator(const Text& text, const Value& value) {
    if (value.person) return out_.append(text.view(), Origin::person);
    out_.append(text);
  }

  void line(const Value& value) {
    if (!options_.indent) return;
    out_.append("\n", origin_of(value));
    for (size_t level = 0; level < level_; ++level) append_separator(*options_.indent, value);
  }

  void begin(std::string_view bracket, const Value& value) {
    out_.append(bracket, origin_of(value));
    ++level_;
    line(value);
  }

  void separate(size_t index, const Value& value) {
    if (index == 0) return;
    append_separator(options_.item_separator, value);
    line(value);
  }

  void end(std::string_view bracket, const Value& value) {
    --level_;
    line(value);
    out_.append(bracket, origin_of(value));
  }

  Builder& out_;
  Meter& meter_;
  const JsonOptions& options_;
  size_t level_ = 0;
};

void append_items(Builder& out, const Value& value, const List& list) {
  using Type = List::Type;
  const bool is_tuple = list.type == Type::tuple;
  const std::string wrapping = is_tuple || list.type == Type::list ? "" : value.type() + "(";
  const Origin origin = origin_of(value);
  out.append(wrapping + (is_tuple ? "(" : "["), origin);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ", origin);
    append_repr(out, list.items[i]);
  }
  out.append(is_tuple ? (list.items.size() == 1 ? ",)" : ")") : wrapping.empty() ? "]" : "])", origin);
}

}  // namespace

std::string repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 400> buffer;
  const double size = std::abs(value);
  const bool is_plain = value == 0 || (size >= 1e-4 && size < 1e16);
  const auto format = is_plain ? std::chars_format::fixed : std::chars_format::scientific;
  std::string text(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format).ptr);
  if (is_plain && text.find('.') == text.npos) text += ".0";
  return text;
}

void append_repr(Builder& out, const Value& value) {
  out.meter().spend(1);
  if (const Text* text = value.text()) return append_quoted(out, *text);
  if (value.is_undefined()) return out.append("Undefined", Origin::template_text);
  if (value.is_none()) return out.append("None", origin_of(value));
  if (value.is_number()) return out.append(number_text(value), origin_of(value));
  if (const Dict* dict = value.dict()) {
    out.append("{", origin_of(value));
    for (size_t i = 0; i < dict->items.size(); ++i) {
      if (i > 0) out.append(", ", origin_of(value));
      append_repr(out, dict->items[i].first);
      out.append(": ", origin_of(value));
      append_repr(out, dict->items[i].second);
    }
    return out.append("}", origin_of(value));
  }
  const List* list = value.list();
  if (!list || list->type == List::Type::generator || list->type == List::Type::range)
    out.meter().refuse("a ", value.type(), " as text is not supported", list ? "; the filter list makes a list of it" : "");
  append_items(out, value, *list);
}

void append_str(Builder& out, const Value& value) {
  if (const Text* text = value.text()) return out.append(*text);
  if (!value.is_undefined()) append_repr(out, value);
}

Value to_text(Meter& meter, const Value& value) {
  if (value.text()) return value;
  Builder out(meter);
  append_str(out, value);
  return out.finish();
}

void append_json(Builder& out, const Value& value, const JsonOptions& options) { JsonWriter(out, out.meter(), options).write(value); }

Value escape_html(Meter& meter, const Text& text) {
  Builder out(meter);
  append_rewritten(out, text, [](char32_t c) -> std::string {
    return c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '\'' ? "&#39;" : c == '"' ? "&#34;" : "";
  });
  Value made = out.finish();
  made.markup = true;
  return made;
}

}  // namespace tessera::jinja

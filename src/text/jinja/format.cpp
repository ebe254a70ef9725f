// Python's two ways to format a text: "%s" % values and "{}".format(values).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "text/fields.h"
#include "text/jinja/characters.h"
#include "text/jinja/python.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

constexpr int kMostWidth = 4096, kMostPrecision = 200;

// One conversion of a % format.
struct Conversion {
  std::optional<std::string> key;
  bool minus = false, plus = false, space = false, zero = false, alternative = false;
  int width = 0, precision = -1;
  char type = 's';
};

class PercentFormat {
 public:
  PercentFormat(Meter& meter, const Text& format, const Value& values) : meter_(meter), format_(format), values_(values), out_(meter) {
    const List* list = values.list();
    if (list && list->type == List::Type::tuple) tuple_ = list;
  }

  Value made() {
    size_t plain = 0;
    while (at_ < format_.size()) {
      if (format_.view()[at_] != '%') {
        ++at_;
        continue;
      }
      out_.append(format_, plain, at_++);
      const Conversion conversion = read();
      if (conversion.type == '%') {
        out_.append(format_, at_ - 1, at_);
      } else {
        convert(conversion);
      }
      plain = at_;
    }
    out_.append(format_, plain, format_.size());
    const bool all = tuple_ ? taken_ == tuple_->items.size() : taken_ == 1 || values_.dict() || values_.list();
    if (!all) meter_.refuse("not all values were used by the format");
    return out_.finish();
  }

 private:
  char next() {
    if (at_ == format_.size()) meter_.refuse("the format ends within a %");
    return format_.view()[at_++];
  }

  int number(const char* what, int most) {
    int64_t value = 0;
    while (at_ < format_.size() && format_.view()[at_] >= '0' && format_.view()[at_] <= '9') {
      value = value * 10 + (next() - '0');
      if (value > most) meter_.refuse("the format's ", what, " is more than ", most);
    }
    return static_cast<int>(value);
  }

  Conversion read() {
    Conversion made;
    char c = next();
    if (c == '(') {
      std::string key;
      while ((c = next()) != ')') key += c;
      made.key = key;
      c = next();
    }
    for (;; c = next()) {
      bool* const flag = c == '-'   ? &made.minus
                         : c == '+' ? &made.plus
                         : c == ' ' ? &made.space
                         : c == '0' ? &made.zero
                         : c == '#' ? &made.alternative
                                    : nullptr;
      if (!flag) break;
      *flag = true;
    }
    --at_;
    made.width = number("width", kMostWidth);
    if (at_ < format_.size() && format_.view()[at_] == '.') {
      ++at_;
      made.precision = number("precision", kMostPrecision);
    }
    made.type = next();
    return made;
  }

  Value value(const Conversion& conversion) {
    if (conversion.key) {
      if (!values_.dict()) meter_.refuse("the format needs a dict, not ", values_.type());
      const Value* found = values_.dict()->find(*conversion.key);
      if (!found) meter_.refuse("the dict has no key ", text::quoted(*conversion.key));
      return *found;
    }
    if (tuple_ ? taken_ == tuple_->items.size() : taken_ == 1) meter_.refuse("there are not enough values for the format");
    return tuple_ ? tuple_->items[taken_++] : (++taken_, values_);
  }

  void convert(const Conversion& conversion) {
    const Value value = this->value(conversion);
    Builder text(meter_);
    const std::string_view types = "diufFeEgGxXoc";
    if (conversion.type == 's') {
      append_str(text, value);
    } else if (conversion.type == 'r') {
      append_repr(text, value);
    } else if (types.find(conversion.type) != types.npos) {
      number_text(text, conversion, value);
    } else {
      meter_.refuse("the conversion ", text::quoted(std::string_view(&conversion.type, 1)), " in a format is not supported");
    }
    const Text& whole = text.text();
    const bool is_text = conversion.type == 's' || conversion.type == 'r';
    const size_t bytes = is_text && conversion.precision >= 0 ? byte_of(whole.view(), conversion.precision) : whole.size();
    const size_t characters = count_characters(whole.view().substr(0, bytes));
    const std::string padding(std::max<int>(conversion.width - static_cast<int>(std::min<size_t>(characters, kMostWidth)), 0), ' ');
    if (!conversion.minus) out_.append(padding, Origin::template_text);
    out_.append(whole, 0, bytes);
    if (conversion.minus) out_.append(padding, Origin::template_text);
  }

  void number_text(Builder& text, const Conversion& conversion, const Value& value) {
    const Origin origin = value.person ? Origin::person : Origin::template_text;
    if (conversion.type == 'c') {
      if (value.text() && count_characters(value.text()->view()) == 1) return text.append(*value.text());
      meter_.refuse("%c of ", value.type(), " is not supported");
    }
    if (!value.is_number()) meter_.refuse("%", conversion.type, " needs a number, not ", value.type());
    std::string format = "%";
    if (conversion.plus) format += '+';
    if (conversion.space) format += ' ';
    if (conversion.alternative) format += '#';
    if (conversion.zero && !conversion.minus) format += '0';
    if (conversion.minus) format += '-';
    format += "*";
    std::array<char, kMostWidth + kMostPrecision + 512> buffer;
    const bool is_real = std::string_view("fFeEgG").find(conversion.type) != std::string_view::npos;
    if (is_real && std::isfinite(*value.real())) {
      format += ".*";
      format += conversion.type;
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), conversion.width, conversion.precision < 0 ? 6 : conversion.precision,
                    *value.real());
    } else if (is_real) {
      meter_.refuse("a number that is not finite cannot be formatted");
    } else {
      const double* real = value.as<double>();
      if (real && !(std::abs(*real) < 9e18)) meter_.refuse("an integer of more than 64 bits is not supported");
      const long long whole = real ? static_cast<long long>(*real) : *value.integer();
      const char type = conversion.type == 'i' || conversion.type == 'u' ? 'd' : conversion.type;
      if (type != 'd' && (whole < 0 || conversion.alternative || real)) meter_.refuse("%", type, " of this number is not supported");
      if (conversion.precision >= 0) format += message('.', conversion.precision);
      format += "ll";
      format += type;
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), conversion.width, whole);
    }
    text.append(buffer.data(), origin);
  }

  Meter& meter_;
  const Text& format_;
  const Value& values_;
  const List* tuple_ = nullptr;
  Builder out_;
  size_t at_ = 0, taken_ = 0;
};

}  // namespace

Value percent_format(Meter& meter, const Text& format, const Value& values) { return PercentFormat(meter, format, values).made(); }

Value brace_format(Meter& meter, const Text& format, const Arguments& arguments) {
  Builder out(meter);
  size_t plain = 0, automatic = 0;
  const std::string_view bytes = format.view();
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (bytes[at] != '{' && bytes[at] != '}') continue;
    out.append(format, plain, at);
    if (at + 1 < bytes.size() && bytes[at + 1] == bytes[at]) {
      plain = ++at;  // the second of a pair stands
      continue;
    }
    const size_t end = bytes.find('}', at);
    if (bytes[at] == '}' || end == bytes.npos) meter.refuse("a brace stands alone in the format");
    const std::string_view field = bytes.substr(at + 1, end - at - 1);
    if (field.find_first_of(".[:!{") != field.npos) meter.refuse("the field ", text::quoted(field), " of a format is not supported");
    const bool is_index = !field.empty() && field.find_first_not_of("0123456789") == field.npos && field.size() < 6;
    const Value* value = nullptr;
    if (field.empty() || is_index) {
      const size_t index = field.empty() ? automatic++ : std::stoul(std::string(field));
      if (index < arguments.positional.size()) value = &arguments.positional[index];
    } else {
      for (const auto& [name, given] : arguments.named)
        if (name == field) value = &given;
    }
    if (!value) meter.refuse("there is no value for the field ", text::quoted(field), " of the format");
    append_str(out, *value);
    plain = end + 1;
    at = end;
  }
  out.append(format, plain, bytes.size());
  return out.finish();
}

}  // namespace tessera::jinja

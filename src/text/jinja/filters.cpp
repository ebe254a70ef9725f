#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "text/fields.h"
#include "text/jinja/builtins.h"
#include "text/jinja/characters.h"
#include "text/jinja/python.h"
#include "text/jinja/strings.h"
#include "text/jinja/text_filters.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

struct Filter {
  std::string_view name;
  Builtin call;
};

Value generator(Meter& meter, std::vector<Value> items, bool person) {
  return make_list(meter, List::Type::generator, std::move(items), person);
}

std::vector<Value> items_of(Call& call) { return iterate(call.meter, call.subject)->items; }
// The same for map, select and their like: of a false value, none among them, there are none.
std::vector<Value> items_if_true(Call& call) { return call.subject.truth() ? items_of(call) : std::vector<Value>(); }

// The subject as a text: str for what is none.
Value subject_text(Call& call) { return to_text(call.meter, call.subject); }

// An attribute by its path ("function.name", "0"), or the value itself where none is given.
class Attribute {
 public:
  Attribute(Call& call, const Value* path) : call_(call) {
    if (!path || path->is_none()) return;
    if (path->integer()) {
      parts_.push_back(*path);
      return;
    }
    if (!path->text()) call.refuse("the attribute is ", path->type(), ", no text");
    const std::string_view text = path->text()->view();
    for (const Slice& part : split_text(call.meter, text, ".", std::numeric_limits<size_t>::max(), false)) {
      const std::string_view name = text.substr(part.begin, part.end - part.begin);
      int64_t index = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
      const bool is_index = !name.empty() && name[0] != '-' && error == std::errc() && end == name.data() + name.size();
      parts_.push_back(is_index ? Value(index) : Value::text(name, Origin::template_text));
    }
  }

  Value operator()(Value value) const {
    for (const Value& part : parts_) value = call_.interpreter.item(value, part);
    return value;
  }

 private:
  Call& call_;
  std::vector<Value> parts_;
};

// What texts are compared by where case does not count.
Value folded(Meter& meter, const Value& value, bool case_sensitive) {
  return case_sensitive || !value.text() ? value : lowered(meter, *value.text());
}

std::vector<Value> sorted(Meter& meter, std::vector<Value> items, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> places(items.size());
  for (size_t i = 0; i < places.size(); ++i) places[i] = i;
  std::stable_sort(places.begin(), places.end(), [&](size_t a, size_t b) {
    const int ordered = order(meter, keys[a], keys[b]).value_or(0);
    return reverse ? ordered > 0 : ordered < 0;
  });
  std::vector<Value> result;
  for (const size_t place : places) result.push_back(items[place]);
  return result;
}

// --- texts

template <Value (*Convert)(Meter&, const Text&)>
Value convert(Call& call) {
  call.finish();
  const Value text = subject_text(call);
  return Convert(call.meter, *text.text());
}

// --- numbers

std::optional<double> parse_real(std::string_view text) {
  text = trim_left(trim_right(text));
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? std::optional(value) : std::nullopt;
}

Value to_int(Call& call) {
  const Value* otherwise = call.take("default");
  const int64_t base = call.integer("base", 10);
  call.finish();
  if (call.subject.is_undefined()) call.refuse("the value is undefined");
  const bool person = call.subject.person || (call.subject.text() && call.subject.text()->has_person());
  if (const std::optional<int64_t> whole = call.subject.integer()) return {*whole, person};
  std::optional<double> real = call.subject.real();
  if (const Text* text = call.subject.text()) {
    if (base != 10) call.refuse("a base other than 10 is not supported");
    std::string_view digits = trim_left(trim_right(text->view()));
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (digits.find('_') != digits.npos) call.refuse("an underscore in a number's text is not supported");
    int64_t whole = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), whole);
    if (error == std::errc::result_out_of_range) call.refuse("an integer of more than 64 bits is not supported");
    if (error == std::errc() && end == digits.data() + digits.size()) return {whole, person};
    real = parse_real(text->view());
  }
  if (!real || !std::isfinite(*real)) return otherwise ? *otherwise : Value(int64_t{0});
  if (std::abs(*real) >= 9.2e18) call.refuse("an integer of more than 64 bits is not supported");
  return {static_cast<int64_t>(*real), person};
}

Value to_float(Call& call) {
  const Value* otherwise = call.take("default");
  call.finish();
  if (call.subject.is_undefined()) call.refuse("the value is undefined");
  const bool person = call.subject.person || (call.subject.text() && call.subject.text()->has_person());
  if (const std::optional<double> real = call.subject.text() ? parse_real(call.subject.text()->view()) : call.subject.real())
    return {*real, person};
  return otherwise ? *otherwise : Value(0.0);
}

Value absolute(Call& call) {
  call.finish();
  if (!call.subject.is_number()) call.refuse("takes a number, not ", call.subject.type());
  return *call.subject.real() < 0 ? negative(call.meter, call.subject) : arithmetic(call.meter, "+", call.subject, Value(int64_t{0}));
}

Value round_number(Call& call) {
  const int64_t precision = call.integer("precision", 0);
  const Text method = call.string("method", "common");
  call.finish();
  if (!call.subject.is_number()) call.refuse("takes a number, not ", call.subject.type());
  if (precision < 0 || precision > 15) call.refuse("a precision of ", precision, " is not supported; 0 to 15 are");
  const bool person = call.subject.person;
  if (call.subject.integer() && method.view() == "common") return {*call.subject.integer(), person};
  const double value = *call.subject.real(), power = std::pow(10.0, static_cast<double>(precision));
  if (method.view() == "ceil") return {std::ceil(value * power) / power, person};
  if (method.view() == "floor") return {std::floor(value * power) / power, person};
  if (method.view() != "common") call.refuse("the method must be common, ceil or floor");
  if (!std::isfinite(value)) return {value, person};
  std::array<char, 400> buffer;  // the decimal digits of the exact value, rounded half to even as Python does
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed, static_cast<int>(precision)).ptr;
  double rounded = 0;
  std::from_chars(buffer.data(), end, rounded);
  return {rounded, person};
}

// --- lists and dicts

Value length_of(Call& call) {
  call.finish();
  return Value(static_cast<int64_t>(length(call.meter, call.subject)));
}

Value default_value(Call& call) {
  const Value* otherwise = call.take("default_value");
  const bool if_false = call.flag("boolean", false);
  call.finish();
  if (!call.subject.is_undefined() && !(if_false && !call.subject.truth())) return call.subject;
  return otherwise ? *otherwise : Value::text("", Origin::template_text);
}

Value first(Call& call) {
  call.finish();
  const std::vector<Value> items = items_of(call);
  return items.empty() ? Value::undefined("there is no first item") : items.front();
}

Value last(Call& call) {
  call.finish();
  if (call.subject.list() && call.subject.list()->type == List::Type::generator) call.refuse("takes no generator; make a list of it");
  const std::vector<Value> items = items_of(call);
  return items.empty() ? Value::undefined("there is no last item") : items.back();
}

Value list(Call& call) {
  call.finish();
  return make_list(call.meter, List::Type::list, items_of(call), call.subject.person);
}

Value reverse(Call& call) {
  call.finish();
  if (call.subject.text()) return slice(call.meter, call.subject, std::nullopt, std::nullopt, -1);
  std::vector<Value> items = items_of(call);
  std::reverse(items.begin(), items.end());
  return generator(call.meter, std::move(items), call.subject.person);
}

Value join(Call& call) {
  const Value* given = call.take("d");
  const Value separator = given ? to_text(call.meter, *given) : Value::text("", Origin::template_text);
  const Attribute attribute(call, call.take("attribute"));
  call.finish();
  Builder out(call.meter);
  bool first = true;
  for (const Value& item : items_of(call)) {
    if (!std::exchange(first, false)) out.append(*separator.text());
    append_str(out, attribute(item));
  }
  return out.finish();
}

Value items(Call& call) {
  call.finish();
  std::vector<Value> pairs;
  if (!call.subject.dict() && !call.subject.is_undefined()) call.refuse("takes a dict, not ", call.subject.type());
  if (const Dict* dict = call.subject.dict())
    for (const auto& [key, value] : dict->items)
      pairs.push_back(make_list(call.meter, List::Type::tuple, {key, value}, call.subject.person));
  return generator(call.meter, std::move(pairs), call.subject.person);
}

Value dictsort(Call& call) {
  const bool case_sensitive = call.flag("case_sensitive", false);
  const Text by = call.string("by", "key");
  const bool reverse = call.flag("reverse", false);
  call.finish();
  if (!call.subject.dict()) call.refuse("takes a dict, not ", call.subject.type());
  if (by.view() != "key" && by.view() != "value") call.refuse("sorts by key or by value");
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : call.subject.dict()->items) {
    pairs.push_back(make_list(call.meter, List::Type::tuple, {key, value}, call.subject.person));
    keys.push_back(folded(call.meter, by.view() == "key" ? key : value, case_sensitive));
  }
  return make_list(call.meter, List::Type::list, sorted(call.meter, std::move(pairs), keys, reverse), call.subject.person);
}

Value sort(Call& call) {
  const bool reverse = call.flag("reverse", false), case_sensitive = call.flag("case_sensitive", false);
  const Value* path = call.take("attribute");
  call.finish();
  if (path && path->text() && path->text()->view().find(',') != std::string_view::npos) call.refuse("several attributes are not supported");
  const Attribute attribute(call, path);
  const std::vector<Value> values = items_of(call);
  std::vector<Value> keys;
  for (const Value& value : values) keys.push_back(folded(call.meter, attribute(value), case_sensitive));
  return make_list(call.meter, List::Type::list, sorted(call.meter, values, keys, reverse), call.subject.person);
}

Value unique(Call& call) {
  const bool case_sensitive = call.flag("case_sensitive", false);
  const Attribute attribute(call, call.take("attribute"));
  call.finish();
  std::vector<Value> kept, keys;
  for (const Value& value : items_of(call)) {
    const Value key = folded(call.meter, attribute(value), case_sensitive);
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& known) { return equal(call.meter, known, key); })) continue;
    keys.push_back(key);
    kept.push_back(value);
  }
  return generator(call.meter, std::move(kept), call.subject.person);
}

Value extreme(Call& call, int sign) {
  const bool case_sensitive = call.flag("case_sensitive", false);
  const Attribute attribute(call, call.take("attribute"));
  call.finish();
  std::optional<Value> best, best_key;
  for (const Value& value : items_of(call)) {
    const Value key = folded(call.meter, attribute(value), case_sensitive);
    if (best && order(call.meter, key, *best_key).value_or(0) * sign <= 0) continue;
    best = value;
    best_key = key;
  }
  return best ? *best : Value::undefined("the sequence is empty");
}

Value sum(Call& call) {
  const Attribute attribute(call, call.take("attribute"));
  const Value* start = call.take("start");
  call.finish();
  Value total = start ? *start : Value(int64_t{0});
  for (const Value& value : items_of(call)) total = arithmetic(call.meter, "+", total, attribute(value));
  return total;
}

Value batch(Call& call) {
  const int64_t count = call.integer("linecount", 0);
  const Value* fill = call.take("fill_with");
  call.finish();
  if (count < 1) call.refuse("the count must be 1 or more");
  std::vector<Value> batches, now;
  const auto flush = [&] { batches.push_back(make_list(call.meter, List::Type::list, std::exchange(now, {}), call.subject.person)); };
  for (const Value& value : items_of(call)) {
    if (static_cast<int64_t>(now.size()) == count) flush();
    now.push_back(value);
  }
  if (!now.empty() && fill && !fill->is_none()) {
    call.meter.expect(sizeof(Value), static_cast<size_t>(count));
    now.resize(static_cast<size_t>(count), *fill);
  }
  if (!now.empty()) flush();
  return generator(call.meter, std::move(batches), call.subject.person);
}

Value map(Call& call) {
  std::vector<Value> mapped;
  if (const Value* path = call.take_named("attribute")) {
    const Attribute attribute(call, path);
    const Value* otherwise = call.take_named("default");
    call.finish();
    for (const Value& item : items_if_true(call)) {
      Value value = attribute(item);
      mapped.push_back(value.is_undefined() && otherwise ? *otherwise : value);
    }
    return generator(call.meter, std::move(mapped), call.subject.person);
  }
  const Text name = call.string("filter", "");
  const Arguments arguments{call.rest(), call.rest_named()};
  for (const Value& item : items_if_true(call)) mapped.push_back(call.interpreter.apply_filter(name.view(), item, arguments));
  return generator(call.meter, std::move(mapped), call.subject.person);
}

// The items of which a test (their own truth, where none is named) gives `wanted`.
Value select(Call& call, bool by_attribute, bool wanted) {
  const Value path = by_attribute ? call.required("attribute") : Value::none();
  const Attribute attribute(call, &path);
  const Value* test = call.take("test");
  if (test && !test->text()) call.refuse("the test is ", test->type(), ", no text");
  const std::string name = test ? test->text()->bytes() : "";
  const Arguments arguments{call.rest(), call.rest_named()};
  std::vector<Value> kept;
  for (const Value& item : items_if_true(call)) {
    const Value value = attribute(item);
    if ((test ? call.interpreter.apply_test(name, value, arguments) : value.truth()) == wanted) kept.push_back(item);
  }
  return generator(call.meter, std::move(kept), call.subject.person);
}

Value attr(Call& call) {
  const Text name = call.string("name", "");
  call.finish();
  // Attributes only: a dict's items are none.
  if (call.subject.dict() && call.subject.dict()->find(name.view())) {
    const std::optional<Value> method = find_method(call.meter, call.subject, name.view());
    return method ? *method : Value::undefined(message("there is no attribute ", text::quoted(name.view())));
  }
  return call.interpreter.attribute(call.subject, name.view());
}

const std::array kFilters{
    Filter{"abs", absolute},
    Filter{"attr", attr},
    Filter{"batch", batch},
    Filter{"capitalize", convert<capitalized>},
    Filter{"center", filters::center},
    Filter{"count", length_of},
    Filter{"d", default_value},
    Filter{"default", default_value},
    Filter{"dictsort", dictsort},
    Filter{"e", filters::escape},
    Filter{"escape", filters::escape},
    Filter{"first", first},
    Filter{"float", to_float},
    Filter{"format", filters::format},
    Filter{"indent", filters::indent},
    Filter{"int", to_int},
    Filter{"items", items},
    Filter{"join", join},
    Filter{"last", last},
    Filter{"length", length_of},
    Filter{"list", list},
    Filter{"lower", convert<lowered>},
    Filter{"map", map},
    Filter{"max", [](Call& call) { return extreme(call, 1); }},
    Filter{"min", [](Call& call) { return extreme(call, -1); }},
    Filter{"reject", [](Call& call) { return select(call, false, false); }},
    Filter{"rejectattr", [](Call& call) { return select(call, true, false); }},
    Filter{"replace", filters::replace},
    Filter{"reverse", reverse},
    Filter{"round", round_number},
    Filter{"safe", filters::safe},
    Filter{"select", [](Call& call) { return select(call, false, true); }},
    Filter{"selectattr", [](Call& call) { return select(call, true, true); }},
    Filter{"sort", sort},
    Filter{"string", filters::string},
    Filter{"sum", sum},
    Filter{"title", filters::title},
    Filter{"tojson", filters::tojson},
    Filter{"trim", filters::trim},
    Filter{"truncate", filters::truncate},
    Filter{"unique", unique},
    Filter{"upper", convert<uppered>},
    Filter{"wordcount", filters::wordcount},
};

}  // namespace

Builtin find_filter(std::string_view name) {
  for (const Filter& filter : kFilters)
    if (filter.name == name) return filter.call;
  return nullptr;
}

}  // namespace tessera::jinja

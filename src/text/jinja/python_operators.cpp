// ==, <, in, loops, arithmetic and slices.
#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/characters.h"
#include "text/jinja/python.h"
#include "text/utf8.h"

namespace tessera::jinja {
namespace {

using Type = List::Type;

void check_defined(Meter& meter, const Value& value) {
  if (const Undefined* undefined = value.as<Undefined>()) meter.refuse(undefined->why ? *undefined->why : "a value is undefined");
}

void check_hashable(Meter& meter, const Value& value) {
  if (value.dict() || (value.list() && value.list()->type == Type::list)) meter.refuse("a ", value.type(), " cannot be a dict's key");
}

bool equal_lists(Meter& meter, const List& left, const List& right) {
  if (left.type != right.type || left.items.size() != right.items.size()) return false;
  if (left.type != Type::list && left.type != Type::tuple && left.type != Type::range) return false;
  for (size_t i = 0; i < left.items.size(); ++i)
    if (!equal(meter, left.items[i], right.items[i])) return false;
  return true;
}

bool equal_dicts(Meter& meter, const Dict& left, const Dict& right) {
  if (left.items.size() != right.items.size()) return false;
  for (const auto& [key, value] : left.items) {
    const Value* other = find(meter, right, key);
    if (!other || !equal(meter, value, *other)) return false;
  }
  return true;
}

std::optional<int> order_numbers(const Value& left, const Value& right) {
  if (const auto a = left.integer(), b = right.integer(); a && b) return *a < *b ? -1 : *a > *b;
  const auto wide = [](const Value& value) {  // holds every int64_t and double
    return value.as<double>() ? static_cast<long double>(*value.as<double>()) : static_cast<long double>(*value.integer());
  };
  const long double a = wide(left), b = wide(right);
  if (std::isnan(a) || std::isnan(b)) return std::nullopt;
  return a < b ? -1 : a > b;
}

[[noreturn]] void unsupported(Meter& meter, std::string_view oper, const Value& left, const Value& right) {
  check_defined(meter, left);
  check_defined(meter, right);
  meter.refuse("unsupported operand types for ", oper, ": ", left.type(), " and ", right.type());
}

Value repeated(Meter& meter, const Value& value, int64_t times, bool person) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (const Text* text = value.text()) {
    Builder out(meter);
    meter.expect(text->runs().size() > 1 ? text->memory() : text->size(), count);
    if (!text->empty())
      for (size_t i = 0; i < count; ++i) out.append(*text);
    return out.finish();
  }
  const List& list = *value.list();
  meter.expect(list.items.size() * sizeof(Value), count);
  std::vector<Value> items;
  for (size_t i = 0; !list.items.empty() && i < count; ++i) {
    meter.spend(list.items.size());
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return make_list(meter, list.type, std::move(items), value.person || person);
}

Value add(Meter& meter, const Value& left, const Value& right) {
  if (left.text() && right.text()) {
    const bool markup = left.markup || right.markup;
    const Value a = markup && !left.markup ? escape_html(meter, *left.text()) : left;
    const Value b = markup && !right.markup ? escape_html(meter, *right.text()) : right;
    Builder out(meter);
    out.append(*a.text());
    out.append(*b.text());
    Value sum = out.finish();
    sum.markup = markup;
    return sum;
  }
  const List *a = left.list(), *b = right.list();
  if (!a || !b || a->type != b->type || (a->type != Type::list && a->type != Type::tuple)) unsupported(meter, "+", left, right);
  std::vector<Value> items = a->items;
  items.insert(items.end(), b->items.begin(), b->items.end());
  return make_list(meter, a->type, std::move(items), left.person || right.person);
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

double modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest == 0 ? std::copysign(0.0, b) : rest;
}

int64_t power(Meter& meter, int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    bool overflows = (exponent & 1) && __builtin_mul_overflow(result, base, &result);
    if (exponent > 1) overflows |= __builtin_mul_overflow(base, base, &base);
    if (overflows) meter.refuse("an integer of more than 64 bits is not supported");
  }
  return result;
}

int64_t whole(Meter& meter, std::string_view oper, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflows = false;
  if (oper == "+") {
    overflows = __builtin_add_overflow(a, b, &result);
  } else if (oper == "-") {
    overflows = __builtin_sub_overflow(a, b, &result);
  } else if (oper == "*") {
    overflows = __builtin_mul_overflow(a, b, &result);
  } else if (oper == "**") {
    return power(meter, a, b);
  } else {
    if (b == 0) meter.refuse("a division by zero");
    if (b == -1) {  // the quotient of the least integer overflows
      overflows = oper == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
    } else {
      result = oper == "//" ? floor_divide(a, b) : a - floor_divide(a, b) * b;
    }
  }
  if (overflows) meter.refuse("an integer of more than 64 bits is not supported");
  return result;
}

double fraction(Meter& meter, std::string_view oper, double a, double b) {
  if (oper == "+") return a + b;
  if (oper == "-") return a - b;
  if (oper == "*") return a * b;
  if (oper == "**") {
    const double result = std::pow(a, b);
    if (!std::isfinite(result) && std::isfinite(a) && std::isfinite(b)) meter.refuse("a power that is no finite number");
    return result;
  }
  if (b == 0) meter.refuse("a division by zero");
  if (oper == "/") return a / b;
  return oper == "%" ? modulo(a, b) : (a - modulo(a, b)) / b;
}

}  // namespace

bool equal(Meter& meter, const Value& left, const Value& right) {
  meter.spend(1);
  if (left.is_number() && right.is_number()) return order_numbers(left, right) == 0;
  if (const Text *a = left.text(), *b = right.text(); a && b) {
    meter.spend_for(std::min(a->size(), b->size()));
    return a->view() == b->view();
  }
  if (const List *a = left.list(), *b = right.list(); a && b) return a == b || equal_lists(meter, *a, *b);
  if (const Dict *a = left.dict(), *b = right.dict(); a && b) return a == b || equal_dicts(meter, *a, *b);
  if (const Function *a = left.function(), *b = right.function(); a && b) return a == b;
  if (auto *a = left.as<Namespace*>(), *b = right.as<Namespace*>(); a && b) return *a == *b;
  return (left.is_none() && right.is_none()) || (left.is_undefined() && right.is_undefined());
}

std::optional<int> order(Meter& meter, const Value& left, const Value& right) {
  meter.spend(1);
  if (left.is_number() && right.is_number()) return order_numbers(left, right);
  if (const Text *a = left.text(), *b = right.text(); a && b) {  // UTF-8's order is that of the characters
    meter.spend_for(std::min(a->size(), b->size()));
    return a->view().compare(b->view());
  }
  const List *a = left.list(), *b = right.list();
  if (!a || !b || a->type != b->type || (a->type != Type::list && a->type != Type::tuple)) {
    check_defined(meter, left);
    check_defined(meter, right);
    meter.refuse(left.type(), " and ", right.type(), " have no order");
  }
  for (size_t i = 0; i < std::min(a->items.size(), b->items.size()); ++i)
    if (!equal(meter, a->items[i], b->items[i])) return order(meter, a->items[i], b->items[i]);
  return a->items.size() < b->items.size() ? -1 : a->items.size() > b->items.size();
}

const Value* find(Meter& meter, const Dict& dict, const Value& key) {
  check_hashable(meter, key);
  meter.spend(1 + dict.items.size() / 8);
  if (const Text* text = key.text()) return dict.find(text->view());
  for (const auto& [name, value] : dict.items)
    if (!name.text() && equal(meter, name, key)) return &value;
  return nullptr;
}

bool contains(Meter& meter, const Value& container, const Value& item) {
  if (const Text* text = container.text()) {
    if (!item.text()) meter.refuse("'in' a text needs a text, not ", item.type());
    meter.spend_for(text->size());
    return text->view().find(item.text()->view()) != std::string_view::npos;
  }
  if (const Dict* dict = container.dict()) return find(meter, *dict, item) != nullptr;
  const std::shared_ptr<const List> items = iterate(meter, container);
  return std::any_of(items->items.begin(), items->items.end(), [&](const Value& other) { return equal(meter, item, other); });
}

std::shared_ptr<const List> iterate(Meter& meter, const Value& value) {
  static const auto nothing = std::make_shared<const List>();
  if (const List* list = value.list()) {
    if (list->type == Type::generator && std::exchange(list->used, true)) return nothing;
    return value.shared_list();
  }
  if (value.is_undefined()) return nothing;
  std::vector<Value> items;
  if (const Dict* dict = value.dict()) {
    for (const auto& [key, item] : dict->items) items.push_back(key);
  } else if (const Text* text = value.text()) {
    for (size_t at = 0; at < text->size();) {
      const size_t end = at + text::utf8_length(text->view()[at]);
      items.push_back(make_text(meter, text->part(at, end)));
      at = end;
    }
  } else {
    meter.refuse("a loop over ", value.type(), " is not possible");
  }
  return make_list(meter, Type::list, std::move(items), value.person).shared_list();
}

size_t length(Meter& meter, const Value& value) {
  if (value.is_undefined()) return 0;
  if (const Text* text = value.text()) {
    meter.spend_for(text->size());
    return count_characters(text->view());
  }
  if (const Dict* dict = value.dict()) return dict->items.size();
  if (!value.list() || value.list()->type == Type::generator) meter.refuse(value.type(), " has no length");
  return value.list()->items.size();
}

Value arithmetic(Meter& meter, std::string_view oper, const Value& left, const Value& right) {
  const bool person = left.person || right.person;
  if (left.is_number() && right.is_number()) {
    const auto a = left.integer(), b = right.integer();
    if (a && b && oper != "/" && !(oper == "**" && *b < 0)) return {whole(meter, oper, *a, *b), person};
    return {fraction(meter, oper, *left.real(), *right.real()), person};
  }
  if (oper == "+") return add(meter, left, right);
  if (oper == "%" && left.text()) return percent_format(meter, *left.text(), right);
  const auto repeats = [](const Value& value) {
    return value.text() || (value.list() && (value.list()->type == Type::list || value.list()->type == Type::tuple));
  };
  if (oper == "*" && repeats(left) && right.integer()) return repeated(meter, left, *right.integer(), right.person);
  if (oper == "*" && repeats(right) && left.integer()) return repeated(meter, right, *left.integer(), left.person);
  unsupported(meter, oper, left, right);
}

Value negative(Meter& meter, const Value& value) {
  if (const double* number = value.as<double>()) return {-*number, value.person};
  if (const std::optional<int64_t> number = value.integer()) return {whole(meter, "-", 0, *number), value.person};
  check_defined(meter, value);
  meter.refuse("a ", value.type(), " has no negative");
}

Value slice(Meter& meter, const Value& value, std::optional<int64_t> start, std::optional<int64_t> stop, std::optional<int64_t> step) {
  check_defined(meter, value);
  const List* list = value.list();
  if (!value.text() && (!list || (list->type != Type::list && list->type != Type::tuple && list->type != Type::range)))
    meter.refuse(value.type(), " cannot be sliced");
  const auto count = static_cast<int64_t>(length(meter, value));
  const int64_t stride = step.value_or(1);
  if (stride == 0) meter.refuse("a slice's step is zero");
  const int64_t least = stride < 0 ? -1 : 0, most = stride < 0 ? count - 1 : count;
  const auto bound = [&](std::optional<int64_t> given, int64_t if_absent) {
    if (!given) return if_absent;
    return std::clamp(*given < 0 ? *given + count : *given, least, most);
  };
  const int64_t first = bound(start, stride < 0 ? most : least), end = bound(stop, stride < 0 ? least : most);
  const auto more = [&](int64_t at) { return stride < 0 ? at > end : at < end; };
  const auto next = [&](int64_t at) {  // without overflow: a step longer than the value ends it
    return stride > count ? count : stride < -count ? int64_t{-1} : at + stride;
  };
  if (const Text* text = value.text()) {
    if (stride == 1) {
      const size_t begin = byte_of(text->view(), first);
      const size_t bytes = first < end ? byte_of(text->view().substr(begin), end - first) : 0;
      return make_text(meter, text->part(begin, begin + bytes));
    }
    const std::shared_ptr<const List> characters = iterate(meter, value);
    Builder out(meter);
    for (int64_t at = first; more(at); at = next(at)) out.append(*characters->items[at].text());
    return out.finish();
  }
  std::vector<Value> items;
  for (int64_t at = first; more(at); at = next(at)) items.push_back(list->items[at]);
  return make_list(meter, list->type, std::move(items), value.person);
}

std::optional<Value> at_index(Meter& meter, const Value& value, int64_t index) {
  const auto count = static_cast<int64_t>(length(meter, value));
  if (index < 0) index += count;
  if (index < 0 || index >= count) return std::nullopt;
  if (const List* list = value.list()) return list->items[index];
  const std::string_view text = value.text()->view();
  const size_t begin = byte_of(text, index);
  return make_text(meter, value.text()->part(begin, begin + text::utf8_length(text[begin])));
}

}  // namespace tessera::jinja

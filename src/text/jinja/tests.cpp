// The tests behind `is`, and the functions that every template has.
#include <array>
#include <cmath>
#include <ctime>

#include "text/fields.h"
#include "text/jinja/builtins.h"
#include "text/jinja/python.h"
#include "text/jinja/strings.h"

namespace tessera::jinja {
namespace {

struct Named {
  std::string_view name;
  Builtin call;
};

constexpr int64_t kLongestRange = 100'000;  // as the sandbox has it

Value subject_alone(Call& call, bool holds) {
  call.finish();
  return Value(holds);
}

bool is_sequence(const Value& value) {
  const List* list = value.list();
  return value.is_undefined() || value.text() || value.dict() ||
         (list && (list->type == List::Type::list || list->type == List::Type::tuple || list->type == List::Type::range));
}

Value divisible(Call& call, int64_t by, int64_t rest) {
  call.finish();
  const Value left = arithmetic(call.meter, "%", call.subject, Value(by));
  return Value(equal(call.meter, left, Value(rest)));
}

template <int kLeast, int kMost>
Value ordered(Call& call) {
  const Value other = call.required("other");
  call.finish();
  const std::optional<int> sign = order(call.meter, call.subject, other);
  return Value(sign && (*sign < 0 ? -1 : *sign > 0) >= kLeast && (*sign < 0 ? -1 : *sign > 0) <= kMost);
}

template <bool kEqual>
Value equals(Call& call) {
  const Value other = call.required("other");
  call.finish();
  return Value(equal(call.meter, call.subject, other) == kEqual);
}

Value same_as(Call& call) {
  const Value other = call.required("other");
  call.finish();
  const Value& value = call.subject;
  if (const bool *a = value.as<bool>(), *b = other.as<bool>(); a || b) return Value(a && b && *a == *b);
  if (value.is_none() || other.is_none()) return Value(value.is_none() && other.is_none());
  call.refuse("is supported for none and booleans only");
}

template <Case kCase>
Value in_one_case(Call& call) {
  call.finish();
  const Value text = to_text(call.meter, call.subject);
  return Value(is_in_case(text.text()->view(), kCase));
}

const std::array kTests{
    Named{"odd", [](Call& call) { return divisible(call, 2, 1); }},
    Named{"even", [](Call& call) { return divisible(call, 2, 0); }},
    Named{"divisibleby", [](Call& call) { return divisible(call, call.integer("num", 0), 0); }},
    Named{"defined", [](Call& call) { return subject_alone(call, !call.subject.is_undefined()); }},
    Named{"undefined", [](Call& call) { return subject_alone(call, call.subject.is_undefined()); }},
    Named{"none", [](Call& call) { return subject_alone(call, call.subject.is_none()); }},
    Named{"boolean", [](Call& call) { return subject_alone(call, call.subject.as<bool>()); }},
    Named{"true", [](Call& call) { return subject_alone(call, call.subject.as<bool>() && *call.subject.as<bool>()); }},
    Named{"false", [](Call& call) { return subject_alone(call, call.subject.as<bool>() && !*call.subject.as<bool>()); }},
    Named{"integer", [](Call& call) { return subject_alone(call, call.subject.as<int64_t>()); }},
    Named{"float", [](Call& call) { return subject_alone(call, call.subject.as<double>()); }},
    Named{"number", [](Call& call) { return subject_alone(call, call.subject.is_number()); }},
    Named{"string", [](Call& call) { return subject_alone(call, call.subject.text()); }},
    Named{"mapping", [](Call& call) { return subject_alone(call, call.subject.dict()); }},
    Named{"sequence", [](Call& call) { return subject_alone(call, is_sequence(call.subject)); }},
    Named{"iterable", [](Call& call) { return subject_alone(call, is_sequence(call.subject) || call.subject.list()); }},
    Named{"callable", [](Call& call) { return subject_alone(call, call.subject.function() || call.subject.is_undefined()); }},
    Named{"escaped", [](Call& call) { return subject_alone(call, call.subject.markup); }},
    Named{"lower", in_one_case<Case::lower>},
    Named{"upper", in_one_case<Case::upper>},
    Named{"sameas", same_as},
    Named{"in",
          [](Call& call) {
            const Value container = call.required("seq");
            call.finish();
            return Value(contains(call.meter, container, call.subject));
          }},
    Named{"filter", [](Call& call) { return subject_alone(call, call.subject.text() && find_filter(call.subject.text()->view())); }},
    Named{"test", [](Call& call) { return subject_alone(call, call.subject.text() && find_test(call.subject.text()->view())); }},
    Named{"==", equals<true>},
    Named{"eq", equals<true>},
    Named{"equalto", equals<true>},
    Named{"!=", equals<false>},
    Named{"ne", equals<false>},
    Named{">", ordered<1, 1>},
    Named{"gt", ordered<1, 1>},
    Named{"greaterthan", ordered<1, 1>},
    Named{">=", ordered<0, 1>},
    Named{"ge", ordered<0, 1>},
    Named{"<", ordered<-1, -1>},
    Named{"lt", ordered<-1, -1>},
    Named{"lessthan", ordered<-1, -1>},
    Named{"<=", ordered<-1, 0>},
    Named{"le", ordered<-1, 0>},
};

// --- functions

Value range(Call& call) {
  const std::vector<Value> bounds = call.rest();
  call.finish();
  if (bounds.empty() || bounds.size() > 3) call.refuse("takes one to three integers");
  for (const Value& bound : bounds)
    if (!bound.integer()) call.refuse("takes integers, not ", bound.type());
  const int64_t start = bounds.size() > 1 ? *bounds[0].integer() : 0, stop = *bounds[bounds.size() > 1].integer();
  const int64_t step = bounds.size() > 2 ? *bounds[2].integer() : 1;
  if (step == 0) call.refuse("the step is zero");
  // In 128 bits: no difference overflows.
  const __int128 distance = step > 0 ? static_cast<__int128>(stop) - start : static_cast<__int128>(start) - stop;
  const __int128 stride = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
  const __int128 count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (count > kLongestRange) call.refuse("has more than ", kLongestRange, " items");
  std::vector<Value> items;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) items.emplace_back(start + i * step);
  return make_list(call.meter, List::Type::range, std::move(items), false);
}

// What dict and namespace are made of: another dict or pairs, and names.
std::vector<std::pair<Value, Value>> pairs(Call& call) {
  std::vector<std::pair<Value, Value>> items;
  const auto set = [&](const Value& key, const Value& value) {
    call.meter.spend(1 + items.size() / 8);
    for (auto& [known, old] : items)
      if (equal(call.meter, known, key)) {
        old = value;
        return;
      }
    items.emplace_back(key, value);
    if (items.size() > Dict::kMostItems) call.refuse("has more than ", Dict::kMostItems, " items");
  };
  if (const Value* given = call.take("")) {
    if (given->dict()) {
      items = given->dict()->items;
    } else {
      for (const Value& pair : iterate(call.meter, *given)->items) {
        const std::shared_ptr<const List> both = iterate(call.meter, pair);
        if (both->items.size() != 2 || both->items[0].levels() > 0) call.refuse("takes pairs of a key and a value");
        set(both->items[0], both->items[1]);
      }
    }
  }
  for (const auto& [name, value] : call.rest_named()) set(Value::text(name, Origin::template_text), value);
  call.finish();
  return items;
}

Value dict(Call& call) { return make_dict(call.meter, pairs(call), false); }

Value make_namespace(Call& call) {
  Namespace* made = call.interpreter.make_namespace();
  for (auto& [key, value] : pairs(call)) {
    if (!key.text() || key.text()->view().starts_with('_')) call.refuse("an attribute must be a name without an underscore before it");
    call.meter.hold(sizeof(Value) + key.text()->size());
    made->attributes.emplace_back(key.text()->bytes(), value);
  }
  return Value(made);
}

Value raise_exception(Call& call) {
  const Value text = to_text(call.meter, call.required("message"));
  call.finish();
  throw RaisedException(text.text()->bytes());
}

Value strftime_now(Call& call) {
  const Text format = call.string("format", "");
  call.finish();
  std::array<char, 4096> buffer;
  // A character more, so that nothing written is told from no room.
  const size_t bytes = std::strftime(buffer.data(), buffer.size(), (format.bytes() + "x").c_str(), &call.interpreter.now());
  if (bytes == 0 || format.view().find('\0') != std::string_view::npos) call.refuse("the format is too long");
  return make_text(call.meter,
                   Text(std::string_view(buffer.data(), bytes - 1), format.has_person() ? Origin::person : Origin::template_text));
}

Value unsupported(Call& call) { call.refuse("is not supported"); }

constexpr std::array kFunctions{Named{"range", range},
                                Named{"dict", dict},
                                Named{"namespace", make_namespace},
                                Named{"raise_exception", raise_exception},
                                Named{"strftime_now", strftime_now},
                                Named{"cycler", unsupported},
                                Named{"joiner", unsupported},
                                Named{"lipsum", unsupported},
                                Named{"self", unsupported}};

}  // namespace

Builtin find_test(std::string_view name) {
  for (const Named& test : kTests)
    if (test.name == name) return test.call;
  return nullptr;
}

Builtin find_function(std::string_view name) {
  for (const Named& function : kFunctions)
    if (function.name == name) return function.call;
  return nullptr;
}

}  // namespace tessera::jinja

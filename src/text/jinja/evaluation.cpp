// The interpreter's expressions.
#include <algorithm>

#include "text/fields.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/python.h"

namespace tessera::jinja {
namespace {

using Kind = Expression::Kind;

std::string owner(const Value& value) { return value.is_none() ? "None" : value.type() + " object"; }

// What `loop` has.
Value loop_attribute(Meter& meter, const std::shared_ptr<Loop>& loop, std::string_view name) {
  const auto count = static_cast<int64_t>(loop->items->items.size()), index = static_cast<int64_t>(loop->index);
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(count - index);
  if (name == "revindex0") return Value(count - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index == count - 1);
  if (name == "length") return Value(count);
  if (name == "depth") return Value(int64_t{1});
  if (name == "depth0") return Value(int64_t{0});
  if (name == "previtem") return index == 0 ? Value::undefined("there is no previous item") : loop->items->items[index - 1];
  if (name == "nextitem") return index + 1 == count ? Value::undefined("there is no next item") : loop->items->items[index + 1];
  const std::weak_ptr<Loop> weak = loop;
  if (name == "cycle")
    return make_function(
        meter, "loop.cycle",
        [weak](Call& call) {
          const std::vector<Value> values = call.rest();
          const std::shared_ptr<Loop> alive = weak.lock();
          if (values.empty() || !alive) call.refuse(alive ? "nothing to cycle through" : "the loop has ended");
          return values[alive->index % values.size()];
        },
        1);
  if (name == "changed")
    return make_function(
        meter, "loop.changed",
        [weak](Call& call) {
          std::vector<Value> values = call.rest();
          const std::shared_ptr<Loop> alive = weak.lock();
          if (!alive) call.refuse("the loop has ended");
          const bool same = alive->changed && alive->changed->size() == values.size() &&
                            std::equal(values.begin(), values.end(), alive->changed->begin(),
                                       [&](const Value& a, const Value& b) { return equal(call.meter, a, b); });
          alive->changed = std::move(values);
          return Value(!same);
        },
        1);
  return Value::undefined(message("the loop has no attribute ", text::quoted(name)));
}

}  // namespace

Value Interpreter::eval(const Expression& e, const Scope& scope) {
  const Level level(meter_);
  meter_.at = e.place;
  meter_.spend(1);
  switch (e.kind) {
    case Kind::constant:
      return e.constant;
    case Kind::block_text:
      return block_text_;
    case Kind::name:
      return eval_name(e, scope);
    case Kind::attribute: {
      const Value owner = eval(*e.operands[0], scope);
      meter_.at = e.place;
      return attribute(owner, e.name);
    }
    case Kind::item: {
      const Value owner = eval(*e.operands[0], scope), key = eval(*e.operands[1], scope);
      meter_.at = e.place;
      return item(owner, key);
    }
    case Kind::slice:
      return eval_slice(e, scope);
    case Kind::call:
    case Kind::filter:
    case Kind::test:
      return eval_call(e, scope);
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
      return eval_items(e, scope);
    case Kind::unary:
      return eval_unary(e, scope);
    case Kind::binary:
      return eval_binary(e, scope);
    case Kind::concat:
      return eval_concat(e, scope);
    case Kind::compare:
      return eval_compare(e, scope);
    case Kind::both:
    case Kind::either: {
      Value left = eval(*e.operands[0], scope);
      return left.truth() == (e.kind == Kind::either) ? left : eval(*e.operands[1], scope);
    }
    case Kind::conditional:
      if (eval(*e.operands[1], scope).truth()) return eval(*e.operands[0], scope);
      return e.operands[2] ? eval(*e.operands[2], scope) : Value::undefined("a conditional without else has no value here");
  }
  return {};
}

Value Interpreter::eval_name(const Expression& e, const Scope& scope) {
  if (const Value* found = scope.find(e.name)) return *found;
  if (const Builtin function = find_function(e.name)) return make_function(meter_, e.name, function, 1);
  return Value::undefined("'" + e.name + "' is undefined");
}

Value Interpreter::eval_slice(const Expression& e, const Scope& scope) {
  const Value value = eval(*e.operands[0], scope);
  std::optional<int64_t> bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (!e.operands[i + 1]) continue;
    const Value bound = eval(*e.operands[i + 1], scope);
    meter_.at = e.place;
    if (!bound.is_none() && !bound.integer()) meter_.refuse("a slice's bound is ", bound.type(), ", no integer");
    bounds[i] = bound.integer();
  }
  meter_.at = e.place;
  return slice(meter_, value, bounds[0], bounds[1], bounds[2]);
}

Arguments Interpreter::arguments(const Expression& e, const Scope& scope, size_t first) {
  Arguments made;
  for (size_t i = first; i < e.operands.size(); ++i) made.positional.push_back(eval(*e.operands[i], scope));
  for (const auto& [name, value] : e.named) made.named.emplace_back(name, eval(*value, scope));
  if (e.star) {
    const std::shared_ptr<const List> more = iterate(meter_, eval(*e.star, scope));
    made.positional.insert(made.positional.end(), more->items.begin(), more->items.end());
  }
  if (e.double_star) {
    const Value more = eval(*e.double_star, scope);
    if (!more.dict()) meter_.refuse("the value behind ** is ", more.type(), ", no dict");
    for (const auto& [key, value] : more.dict()->items) {
      if (!key.text()) meter_.refuse("an argument's name is ", key.type(), ", no text");
      made.named.emplace_back(key.text()->bytes(), value);
    }
  }
  return made;
}

Value Interpreter::eval_call(const Expression& e, const Scope& scope) {
  Value first = eval(*e.operands[0], scope);
  Arguments given = arguments(e, scope, 1);
  meter_.at = e.place;
  if (e.kind == Kind::call) return call(first, std::move(given));
  if (e.kind == Kind::filter) return apply_filter(e.name, std::move(first), std::move(given));
  return Value(apply_test(e.name, std::move(first), std::move(given)));
}

Value Interpreter::call(const Value& callee, Arguments arguments) {
  if (const Undefined* undefined = callee.as<Undefined>()) meter_.refuse(undefined->why ? *undefined->why : "is undefined");
  if (!callee.function()) meter_.refuse("a value of type ", callee.type(), " cannot be called");
  const Value held = callee;  // its function may outlive the variable that had it
  Call call(*this, "function", held.function()->name, Value(), std::move(arguments));
  return held.function()->call(call);
}

Value Interpreter::apply_filter(std::string_view name, Value value, Arguments arguments) {
  const Builtin filter = find_filter(name);
  if (!filter) meter_.refuse("the filter ", text::quoted(name), " is not supported");
  Call call(*this, "filter", name, std::move(value), std::move(arguments));
  return filter(call);
}

bool Interpreter::apply_test(std::string_view name, Value value, Arguments arguments) {
  const Builtin test = find_test(name);
  if (!test) meter_.refuse("the test ", text::quoted(name), " is not supported");
  Call call(*this, "test", name, std::move(value), std::move(arguments));
  return test(call).truth();
}

Value Interpreter::eval_items(const Expression& e, const Scope& scope) {
  if (e.kind != Kind::dict) {
    std::vector<Value> items;
    for (const ExpressionPointer& item : e.operands) items.push_back(eval(*item, scope));
    return make_list(meter_, e.kind == Kind::list ? List::Type::list : List::Type::tuple, std::move(items), false);
  }
  Dict dict;
  for (size_t i = 0; i < e.operands.size(); i += 2) {
    const Value key = eval(*e.operands[i], scope);
    Value value = eval(*e.operands[i + 1], scope);
    meter_.at = e.place;
    if (const Value* old = find(meter_, dict, key)) {
      const_cast<Value&>(*old) = std::move(value);  // of `dict`, which is not const
    } else {
      dict.items.emplace_back(key, std::move(value));
    }
  }
  return make_dict(meter_, std::move(dict.items), false);
}

Value Interpreter::eval_unary(const Expression& e, const Scope& scope) {
  const Value value = eval(*e.operands[0], scope);
  meter_.at = e.place;
  if (e.operators[0] == "not") return Value(!value.truth());
  const Value negated = negative(meter_, value);
  return e.operators[0] == "-" ? negated : negative(meter_, negated);
}

Value Interpreter::eval_binary(const Expression& e, const Scope& scope) {
  const Value left = eval(*e.operands[0], scope), right = eval(*e.operands[1], scope);
  meter_.at = e.place;
  return arithmetic(meter_, e.operators[0], left, right);
}

Value Interpreter::eval_concat(const Expression& e, const Scope& scope) {
  Builder out(meter_);
  for (const ExpressionPointer& operand : e.operands) append_str(out, eval(*operand, scope));
  return out.finish();
}

Value Interpreter::eval_compare(const Expression& e, const Scope& scope) {
  Value left = eval(*e.operands[0], scope);
  for (size_t i = 0; i < e.operators.size(); ++i) {
    Value right = eval(*e.operands[i + 1], scope);
    meter_.at = e.place;
    const std::string& oper = e.operators[i];
    bool holds = false;
    if (oper == "==" || oper == "!=") {
      holds = equal(meter_, left, right) == (oper == "==");
    } else if (oper == "in" || oper == "not in") {
      holds = contains(meter_, right, left) == (oper == "in");
    } else if (const std::optional<int> ordered = order(meter_, left, right)) {
      holds = oper == "<" ? *ordered < 0 : oper == "<=" ? *ordered <= 0 : oper == ">" ? *ordered > 0 : *ordered >= 0;
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::item(const Value& value, const Value& key) {
  if (const Undefined* undefined = value.as<Undefined>()) meter_.refuse(undefined->why ? *undefined->why : "is undefined");
  if (const Dict* dict = value.dict(); dict && !key.dict() && !(key.list() && key.list()->type == List::Type::list)) {
    if (const Value* found = find(meter_, *dict, key)) return *found;
  } else if (const std::optional<int64_t> index = key.integer(); index && !key.as<double>()) {
    const List* list = value.list();
    const bool is_indexed =
        value.text() || (list && (list->type == List::Type::list || list->type == List::Type::tuple || list->type == List::Type::range));
    if (is_indexed)
      if (std::optional<Value> found = at_index(meter_, value, *index)) return *found;
  }
  if (const Text* name = key.text()) return attribute(value, name->view());
  return Value::undefined(message("'", owner(value), "' has no such element"));
}

Value Interpreter::attribute(const Value& value, std::string_view name) {
  if (const Undefined* undefined = value.as<Undefined>()) meter_.refuse(undefined->why ? *undefined->why : "is undefined");
  if (name.starts_with("__")) return Value::undefined(message("access to the attribute ", text::quoted(name), " is unsafe"));
  if (const auto* loop = value.as<std::weak_ptr<Loop>>()) {
    const std::shared_ptr<Loop> alive = loop->lock();
    if (!alive) meter_.refuse("the loop has ended");
    return loop_attribute(meter_, alive, name);
  }
  if (Namespace* const* names = value.as<Namespace*>()) {
    for (const auto& [known, held] : (*names)->attributes)
      if (known == name) return held;
  }
  if (const std::optional<Value> method = find_method(meter_, value, name)) return *method;
  if (const Dict* dict = value.dict()) {
    meter_.spend(1 + dict->items.size() / 8);
    if (const Value* found = dict->find(name)) return *found;
  }
  return Value::undefined(message("'", owner(value), "' has no attribute ", text::quoted(name)));
}

Namespace* Interpreter::make_namespace() {
  meter_.hold(sizeof(Namespace));
  return &namespaces_.emplace_back();
}

}  // namespace tessera::jinja

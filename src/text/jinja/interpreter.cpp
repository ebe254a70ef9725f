#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/fields.h"
#include "text/jinja/python.h"

namespace tessera::jinja {
namespace {

using Kind = Expression::Kind;

}  // namespace

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope; scope = scope->parent.get())
    for (const auto& [known, value] : scope->variables)
      if (known == name) return &value;
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [known, old] : variables)
    if (known == name) {
      old = std::move(value);
      return;
    }
  variables.emplace_back(name, std::move(value));
}

void Interpreter::run(const Block& block, std::vector<std::pair<std::string_view, Value>> variables, Builder& out) {
  const auto given = std::make_shared<Scope>();
  given->variables = std::move(variables);
  const auto top = std::make_shared<Scope>();
  top->parent = given;
  run(block, top, out);
}

Interpreter::Flow Interpreter::run(const Block& block, const ScopePointer& scope, Builder& out) {
  for (const Statement& statement : block)
    if (const Flow flow = run(statement, scope, out); flow != Flow::next) return flow;
  return Flow::next;
}

Interpreter::Flow Interpreter::run(const Statement& statement, const ScopePointer& scope, Builder& out) {
  using Is = Statement::Kind;
  const Level level(meter_);
  meter_.at = statement.place;
  meter_.spend(1);
  switch (statement.kind) {
    case Is::data:
      out.append(*statement.text.text());
      break;
    case Is::output:
      for (const ExpressionPointer& value : statement.values) append_str(out, eval(*value, *scope));
      break;
    case Is::set:
      assign(*statement.targets[0], eval(*statement.values[0], *scope), *scope);
      break;
    case Is::set_block:
      assign(*statement.targets[0], block_text(statement, scope), *scope);
      break;
    case Is::filter_block:
      append_str(out, block_text(statement, scope));
      break;
    case Is::branches:
      return run_branches(statement, scope, out);
    case Is::loop:
      return run_loop(statement, scope, out);
    case Is::break_loop:
      return Flow::broken;
    case Is::continue_loop:
      return Flow::continued;
    case Is::macro:
      scope->set(statement.name, macro(statement, scope));
      break;
    case Is::call_block:
      run_call_block(statement, scope, out);
      break;
    case Is::with:
      run_with(statement, scope, out);
      break;
    case Is::generation: {
      const auto inner = std::make_shared<Scope>(Scope{scope, {}});
      run(statement.body, inner, out);
      break;
    }
  }
  return Flow::next;
}

Interpreter::Flow Interpreter::run_branches(const Statement& statement, const ScopePointer& scope, Builder& out) {
  for (const Branch& branch : statement.branches)
    if (!branch.condition || eval(*branch.condition, *scope).truth()) return run(branch.body, scope, out);
  return Flow::next;
}

Interpreter::Flow Interpreter::run_loop(const Statement& statement, const ScopePointer& scope, Builder& out) {
  const auto loop = std::make_shared<Loop>();
  loop->items = iterate(meter_, eval(*statement.values[0], *scope));
  const Expression& target = *statement.targets[0];
  if (statement.condition) {
    std::vector<Value> wanted;
    for (const Value& item : loop->items->items) {
      Scope inner{scope, {}};
      assign(target, item, inner);
      if (eval(*statement.condition, inner).truth()) wanted.push_back(item);
    }
    loop->items = make_list(meter_, List::Type::list, std::move(wanted), false).shared_list();
  }
  for (; loop->index < loop->items->items.size(); ++loop->index) {
    meter_.spend(1);
    const auto inner = std::make_shared<Scope>(Scope{scope, {}});
    inner->set("loop", Value(std::weak_ptr<Loop>(loop)));
    assign(target, loop->items->items[loop->index], *inner);
    if (run(statement.body, inner, out) == Flow::broken) return Flow::next;
  }
  return loop->items->items.empty() ? run(statement.otherwise, scope, out) : Flow::next;
}

// What the body renders, through the block's filters.
Value Interpreter::block_text(const Statement& statement, const ScopePointer& scope) {
  Builder body(meter_);
  run(statement.body, std::make_shared<Scope>(Scope{scope, {}}), body);
  Value outer = std::exchange(block_text_, body.finish());
  Value filtered = eval(*statement.values[0], *scope);
  block_text_ = std::move(outer);
  return filtered;
}

void Interpreter::run_with(const Statement& statement, const ScopePointer& scope, Builder& out) {
  const auto inner = std::make_shared<Scope>(Scope{scope, {}});
  for (size_t i = 0; i < statement.targets.size(); ++i) assign(*statement.targets[i], eval(*statement.values[i], *scope), *inner);
  run(statement.body, inner, out);
}

Value Interpreter::macro(const Statement& statement, const ScopePointer& scope) {
  return make_function(
      meter_, statement.name,
      [this, &statement, home = std::weak_ptr<Scope>(scope)](Call& call) { return call_macro(statement, home, call); }, 1);
}

void Interpreter::run_call_block(const Statement& statement, const ScopePointer& scope, Builder& out) {
  const Expression& called = *statement.values[0];
  const Value callee = eval(*called.operands[0], *scope);
  Arguments arguments = this->arguments(called, *scope, 1);
  arguments.named.emplace_back("caller", macro(statement, scope));
  meter_.at = called.place;
  append_str(out, call(callee, std::move(arguments)));
}

Value Interpreter::call_macro(const Statement& statement, const std::weak_ptr<Scope>& home, Call& call) {
  const Signature& signature = statement.signature;
  const std::shared_ptr<Scope> around = home.lock();
  if (!around) call.refuse("is called outside of where it is defined");
  const auto scope = std::make_shared<Scope>(Scope{around, {}});
  const size_t first_default = signature.names.size() - signature.defaults.size();
  for (size_t i = 0; i < signature.names.size(); ++i) {
    const std::string& name = signature.names[i];
    if (const Value* given = call.take(name)) {
      scope->set(name, *given);
    } else if (i >= first_default) {
      scope->set(name, eval(*signature.defaults[i - first_default], *scope));
    } else {
      scope->set(name, Value::undefined(message("the argument ", text::quoted(name), " was not given")));
    }
  }
  const bool names_caller = std::find(signature.names.begin(), signature.names.end(), "caller") != signature.names.end();
  if (signature.takes_caller && !names_caller) {
    const Value* given = call.take_named("caller");
    scope->set("caller", given ? *given : Value::undefined("no caller is given"));
  }
  if (signature.takes_varargs) scope->set("varargs", make_list(meter_, List::Type::tuple, call.rest(), false));
  if (signature.takes_kwargs) {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, value] : call.rest_named()) items.emplace_back(Value::text(name, Origin::template_text), std::move(value));
    scope->set("kwargs", make_dict(meter_, std::move(items), false));
  }
  call.finish();
  Builder out(meter_);
  run(statement.body, scope, out);
  return out.finish();
}

void Interpreter::assign(const Expression& target, const Value& value, Scope& scope) {
  meter_.at = target.place;
  if (target.kind == Kind::name) return scope.set(target.name, value);
  if (target.kind == Kind::attribute) {
    const Value owner = eval(*target.operands[0], scope);
    meter_.at = target.place;
    Namespace* const* names = owner.as<Namespace*>();
    if (!names) meter_.refuse("an attribute can be set of a namespace only, not of ", owner.type());
    if (target.name.starts_with('_')) meter_.refuse("a namespace's attribute cannot begin with an underscore");
    for (auto& [name, old] : (*names)->attributes)
      if (name == target.name) {
        old = value;
        return;
      }
    meter_.hold(sizeof(Value) + target.name.size());
    (*names)->attributes.emplace_back(target.name, value);
    return;
  }
  const std::shared_ptr<const List> parts = iterate(meter_, value);
  if (parts->items.size() != target.operands.size())
    meter_.refuse(target.operands.size(), " values are expected, not ", parts->items.size());
  for (size_t i = 0; i < parts->items.size(); ++i) assign(*target.operands[i], parts->items[i], scope);
}

}  // namespace tessera::jinja

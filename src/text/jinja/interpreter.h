#pragma once
#include <ctime>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/meter.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

// The template's own word that a conversation is not as it wants it: raise_exception's message.
class RaisedException : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Variables, and those of the scopes around them.
struct Scope {
  std::shared_ptr<const Scope> parent;
  std::vector<std::pair<std::string_view, Value>> variables;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

class Interpreter {
 public:
  // What the meter counts lives no longer than it. `now` is the local time of strftime_now.
  Interpreter(Meter& meter, const std::tm& now) : meter_(meter), now_(now) {}

  // `variables` are the template's, named by texts that outlive the interpreter.
  void run(const Block& block, std::vector<std::pair<std::string_view, Value>> variables, Builder& out);

  Meter& meter() { return meter_; }
  const std::tm& now() const { return now_; }

  Value item(const Value& value, const Value& key);
  Value attribute(const Value& value, std::string_view name);
  Value apply_filter(std::string_view name, Value value, Arguments arguments);
  bool apply_test(std::string_view name, Value value, Arguments arguments);
  Namespace* make_namespace();

 private:
  enum class Flow { next, broken, continued };
  using ScopePointer = std::shared_ptr<Scope>;

  Flow run(const Block& block, const ScopePointer& scope, Builder& out);
  Flow run(const Statement& statement, const ScopePointer& scope, Builder& out);
  Flow run_loop(const Statement& statement, const ScopePointer& scope, Builder& out);
  Flow run_branches(const Statement& statement, const ScopePointer& scope, Builder& out);
  void run_call_block(const Statement& statement, const ScopePointer& scope, Builder& out);
  void run_with(const Statement& statement, const ScopePointer& scope, Builder& out);
  Value block_text(const Statement& statement, const ScopePointer& scope);
  Value macro(const Statement& statement, const ScopePointer& scope);
  Value call_macro(const Statement& statement, const std::weak_ptr<Scope>& home, Call& call);
  void assign(const Expression& target, const Value& value, Scope& scope);

  Value eval(const Expression& e, const Scope& scope);
  Value eval_name(const Expression& e, const Scope& scope);
  Value eval_slice(const Expression& e, const Scope& scope);
  Value eval_call(const Expression& e, const Scope& scope);
  Value eval_items(const Expression& e, const Scope& scope);
  Value eval_unary(const Expression& e, const Scope& scope);
  Value eval_binary(const Expression& e, const Scope& scope);
  Value eval_concat(const Expression& e, const Scope& scope);
  Value eval_compare(const Expression& e, const Scope& scope);
  Arguments arguments(const Expression& e, const Scope& scope, size_t first);
  Value call(const Value& callee, Arguments arguments);

  Meter& meter_;
  std::tm now_;
  std::deque<Namespace> namespaces_;
  Value block_text_;
};

// One call of a filter, test, method or function. Arguments are taken in their order, by place or by name.
class Call {
 public:
  Call(Interpreter& of, const char* what, std::string_view name, Value to, Arguments arguments)
      : interpreter(of), meter(of.meter()), subject(std::move(to)), what_(what), name_(name), arguments_(std::move(arguments)) {}

  Interpreter& interpreter;
  Meter& meter;
  const Value subject;

  const Value* take(std::string_view name);  // null: not given
  Value required(std::string_view name);
  int64_t integer(std::string_view name, int64_t if_absent);
  bool flag(std::string_view name, bool if_absent);
  Text string(std::string_view name, std::string_view if_absent);
  const Value* take_named(std::string_view name);
  std::vector<Value> rest();  // the places that are left
  std::vector<std::pair<std::string, Value>> rest_named();
  void finish();  // refuses what was not taken

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    meter.refuse("the ", what_, " ", name_, ": ", parts...);
  }

 private:
  const char* what_;
  std::string name_;
  Arguments arguments_;
  size_t taken_ = 0;
};

}  // namespace tessera::jinja

#include "text/jinja/parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "text/fields.h"
#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"

namespace tessera::jinja {
namespace {

using Kind = Expression::Kind;
using Type = Token::Type;
using Words = std::initializer_list<std::string_view>;

constexpr size_t kMostLevels = 200;  // of expressions and blocks within each other

class Parser {
 public:
  Parser(std::string_view source, const std::string& name) : name_(name), tokens_(tokenize(source, name)) {}

  Block parse() {
    Block whole = block({});
    if (!unknown_.empty()) refuse(unknown_[0].place, unknown_[0].message);
    return whole;
  }

 private:
  // --- tokens
  const Token& now() const { return tokens_[at_]; }
  Token next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_if(std::string_view text) {
    if (!now().is(text)) return false;
    next();
    return true;
  }
  static std::string shown(const Token& token) {
    switch (token.type) {
      case Type::data:
        return "text";
      case Type::block_begin:
      case Type::variable_begin:
        return "a tag";
      case Type::block_end:
      case Type::variable_end:
        return "the tag's end";
      case Type::end:
        return "the template's end";
      case Type::string:
        return "the string " + text::quoted(token.text);
      default:
        return text::quoted(token.text);
    }
  }
  template <class... Parts>
  [[noreturn]] void refuse(Place place, const Parts&... parts) const {
    fail<FileError>(name_, ", line ", place.line, ", column ", place.column, ": ", parts...);
  }
  Token expect(std::string_view text) {
    if (!now().is(text)) refuse(now().place, "'", text, "' is expected, not ", shown(now()));
    return next();
  }
  Token expect(Type type, const char* what) {
    if (now().type != type) refuse(now().place, what, " is expected, not ", shown(now()));
    return next();
  }

  // --- nesting
  class Deeper {
   public:
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kMostLevels) parser_.refuse(parser_.now().place, "is nested more than ", kMostLevels, " levels deep");
    }
    ~Deeper() { --parser_.depth_; }

   private:
    Parser& parser_;
  };

  ExpressionPointer make(Kind kind, Place place) { return std::make_unique<Expression>(Expression{kind, place}); }

  template <class... Operands>
  ExpressionPointer make(Kind kind, Place place, Operands... operands) {
    ExpressionPointer made = make(kind, place);
    (add(*made, std::move(operands)), ...);
    return made;
  }

  void grow(Expression& outer, const ExpressionPointer& inner) const {
    if (inner) outer.levels = std::max(outer.levels, inner->levels + 1);
    if (outer.levels > kMostLevels) refuse(outer.place, "is nested more than ", kMostLevels, " levels deep");
  }

  void add(Expression& outer, ExpressionPointer inner) {
    grow(outer, inner);
    outer.operands.push_back(std::move(inner));
  }

  ExpressionPointer constant(Place place, Value value) {
    ExpressionPointer made = make(Kind::constant, place);
    made->constant = std::move(value);
    return made;
  }

  // --- expressions, from those that bind least
  ExpressionPointer expression(bool with_condition = true) {
    const Deeper deeper(*this);
    return with_condition ? conditional() : either();
  }

  // A filter or test that is not there is refused at once, but where an if stands around it, when it is called.
  class Soft {
   public:
    Soft(Parser& parser, bool soft) : parser_(parser), before_(std::exchange(parser.soft_, soft)) {}
    ~Soft() { parser_.soft_ = before_; }

   private:
    Parser& parser_;
    bool before_;
  };

  struct Unknown {
    Place place;
    std::string message;
  };

  void unknown(Place place, const char* what, const std::string& name) {
    if (!soft_) unknown_.push_back({place, message("the ", what, " ", text::quoted(name), " is not supported")});
  }

  ExpressionPointer conditional() {
    const size_t unknown = unknown_.size();
    ExpressionPointer value = either();
    while (now().is("if")) {
      const Place place = next().place;
      ExpressionPointer condition = either(), otherwise;
      if (skip_if("else")) {
        const Deeper deeper(*this);
        otherwise = conditional();
      }
      value = make(Kind::conditional, place, std::move(value), std::move(condition), std::move(otherwise));
      unknown_.resize(unknown);
    }
    return value;
  }

  ExpressionPointer either() {
    ExpressionPointer left = both();
    while (now().is("or")) {
      const Place place = next().place;
      left = make(Kind::either, place, std::move(left), both());
    }
    return left;
  }

  ExpressionPointer both() {
    ExpressionPointer left = negation();
    while (now().is("and")) {
      const Place place = next().place;
      left = make(Kind::both, place, std::move(left), negation());
    }
    return left;
  }

  ExpressionPointer negation() {
    if (!now().is("not")) return compare();
    const Deeper deeper(*this);
    const Place place = next().place;
    return unary_of("not", place, negation());
  }

  ExpressionPointer unary_of(std::string oper, Place place, ExpressionPointer operand) {
    ExpressionPointer made = make(Kind::unary, place, std::move(operand));
    made->operators.push_back(std::move(oper));
    return made;
  }

  ExpressionPointer compare() {
    ExpressionPointer left = sum(), made;
    for (;;) {
      const Token token = now();
      std::string oper;
      if (is_one_of(token, {"==", "!=", "<", "<=", ">", ">=", "in"})) {
        oper = next().text;
      } else if (token.is("not") && tokens_[at_ + 1].is("in")) {
        next();
        next();
        oper = "not in";
      } else {
        return made ? std::move(made) : std::move(left);
      }
      if (!made) made = make(Kind::compare, token.place, std::move(left));
      made->operators.push_back(oper);
      add(*made, sum());
    }
  }

  static bool is_one_of(const Token& token, Words words) {
    return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return token.is(word); });
  }

  template <class Operand>
  ExpressionPointer binary(Words operators, const Operand& operand) {
    ExpressionPointer left = operand();
    while (now().type == Type::op && is_one_of(now(), operators)) {
      const Token token = next();
      left = make(Kind::binary, token.place, std::move(left), operand());
      left->operators.push_back(token.text);
    }
    return left;
  }

  ExpressionPointer sum() {
    return binary({"+", "-"}, [&] { return concat(); });
  }

  ExpressionPointer concat() {
    ExpressionPointer first = product();
    if (!now().is("~")) return first;
    ExpressionPointer made = make(Kind::concat, now().place, std::move(first));
    while (skip_if("~")) add(*made, product());
    return made;
  }

  ExpressionPointer product() {
    return binary({"*", "/", "//", "%"}, [&] { return binary({"**"}, [&] { return unary(true); }); });
  }

  ExpressionPointer unary(bool with_filters) {
    ExpressionPointer made;
    if (now().is("-") || now().is("+")) {
      const Deeper deeper(*this);
      const Token token = next();
      made = unary_of(token.text, token.place, unary(false));
    } else {
      made = primary();
    }
    made = postfix(std::move(made));
    return with_filters ? filters_and_tests(std::move(made)) : std::move(made);
  }

  ExpressionPointer primary() {
    const Token token = now();
    switch (token.type) {
      case Type::name:
        next();
        return name_or_constant(token);
      case Type::integer:
        next();
        return constant(token.place, Value(token.integer));
      case Type::real:
        next();
        return constant(token.place, Value(token.real));
      case Type::string: {
        std::string text;
        while (now().type == Type::string) text += next().text;
        return constant(token.place, Value::text(text, Origin::template_text));
      }
      default:
        break;
    }
    if (skip_if("(")) {
      ExpressionPointer inner = tuple(true, true);
      expect(")");
      return inner;
    }
    if (skip_if("[")) return items(Kind::list, token.place, "]");
    if (skip_if("{")) return items(Kind::dict, token.place, "}");
    refuse(token.place, "an expression is expected, not ", shown(token));
  }

  ExpressionPointer name_or_constant(const Token& token) {
    if (token.text == "true" || token.text == "True") return constant(token.place, Value(true));
    if (token.text == "false" || token.text == "False") return constant(token.place, Value(false));
    if (token.text == "none" || token.text == "None") return constant(token.place, Value::none());
    if (signature_) {
      if (token.text == "caller") signature_->takes_caller = true;
      if (token.text == "varargs") signature_->takes_varargs = true;
      if (token.text == "kwargs") signature_->takes_kwargs = true;
    }
    ExpressionPointer made = make(Kind::name, token.place);
    made->name = token.text;
    return made;
  }

  ExpressionPointer items(Kind kind, Place place, std::string_view end) {
    ExpressionPointer made = make(kind, place);
    while (!now().is(end)) {
      if (!made->operands.empty()) {
        expect(",");
        if (now().is(end)) break;
      }
      add(*made, expression());
      if (kind != Kind::dict) continue;
      expect(":");
      add(*made, expression());
    }
    expect(end);
    return made;
  }

  bool is_tuple_end() const {
    return now().type == Type::variable_end || now().type == Type::block_end || now().is(")") || now().is("in") || now().is("recursive");
  }

  // Expressions with commas between them, or one alone.
  ExpressionPointer tuple(bool with_condition, bool may_be_empty) {
    const Place place = now().place;
    ExpressionPointer made = make(Kind::tuple, place);
    bool has_comma = false;
    while (made->operands.empty() || has_comma) {
      if (is_tuple_end()) break;
      add(*made, expression(with_condition));
      if (!now().is(",")) break;
      next();
      has_comma = true;
    }
    if (has_comma) return made;
    if (!made->operands.empty()) return std::move(made->operands[0]);
    if (!may_be_empty) refuse(place, "an expression is expected, not ", shown(now()));
    return made;
  }

  ExpressionPointer postfix(ExpressionPointer value) {
    for (;;) {
      if (now().is(".")) {
        value = attribute(std::move(value));
      } else if (now().is("[")) {
        value = subscript(std::move(value));
      } else if (now().is("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPointer attribute(ExpressionPointer value) {
    const Place place = next().place;
    const Token token = next();
    if (token.type == Type::integer) return make(Kind::item, place, std::move(value), constant(token.place, Value(token.integer)));
    if (token.type != Type::name) refuse(token.place, "a name is expected behind the dot, not ", shown(token));
    ExpressionPointer made = make(Kind::attribute, token.place, std::move(value));
    made->name = token.text;
    return made;
  }

  ExpressionPointer subscript(ExpressionPointer value) {
    const Place place = next().place;
    ExpressionPointer first;
    if (!now().is(":")) first = expression();
    if (!now().is(":")) {
      if (now().is(",")) refuse(now().place, "an index of several parts is not supported");
      expect("]");
      return make(Kind::item, place, std::move(value), std::move(first));
    }
    ExpressionPointer made = make(Kind::slice, place, std::move(value), std::move(first));
    while (made->operands.size() < 4 && skip_if(":")) {
      ExpressionPointer bound;
      if (!now().is(":") && !now().is("]")) bound = expression();
      add(*made, std::move(bound));
    }
    while (made->operands.size() < 4) add(*made, nullptr);
    expect("]");
    return made;
  }

  ExpressionPointer call(ExpressionPointer callee) {
    ExpressionPointer made = make(Kind::call, now().place, std::move(callee));
    arguments(*made);
    return made;
  }

  void arguments(Expression& call) {
    const Place place = expect("(").place;
    for (bool first = true; !now().is(")"); first = false) {
      if (!first) {
        expect(",");
        if (now().is(")")) break;
      }
      if (skip_if("*")) {
        if (call.star || call.double_star) refuse(place, "these arguments are not in order");
        grow(call, call.star = expression());
      } else if (skip_if("**")) {
        if (call.double_star) refuse(place, "these arguments are not in order");
        grow(call, call.double_star = expression());
      } else if (now().type == Type::name && tokens_[at_ + 1].is("=")) {
        if (call.double_star) refuse(place, "these arguments are not in order");
        std::string name = next().text;
        next();
        call.named.emplace_back(std::move(name), expression());
        grow(call, call.named.back().second);
      } else {
        if (!call.named.empty() || call.star || call.double_star) refuse(place, "these arguments are not in order");
        add(call, expression());
      }
    }
    expect(")");
  }

  ExpressionPointer filters_and_tests(ExpressionPointer value) {
    for (;;) {
      if (now().is("|")) {
        next();
        value = filter(std::move(value));
      } else if (now().is("is")) {
        value = test(std::move(value));
      } else if (now().is("(")) {
        value = call(std::move(value));
      } else {
        return value;
      }
    }
  }

  std::string dotted_name(const char* what) {
    std::string name = expect(Type::name, what).text;
    while (skip_if(".")) name += "." + expect(Type::name, what).text;
    return name;
  }

  ExpressionPointer filter(ExpressionPointer value) {
    ExpressionPointer made = make(Kind::filter, now().place, std::move(value));
    made->name = dotted_name("a filter's name");
    if (!find_filter(made->name)) unknown(made->place, "filter", made->name);
    if (now().is("(")) arguments(*made);
    return made;
  }

  ExpressionPointer test(ExpressionPointer value) {
    const Place place = next().place;
    const bool negated = skip_if("not");
    ExpressionPointer made = make(Kind::test, now().place, std::move(value));
    made->name = dotted_name("a test's name");
    if (!find_test(made->name)) unknown(made->place, "test", made->name);
    if (now().is("(")) {
      arguments(*made);
    } else if (begins_operand()) {
      if (now().is("is")) refuse(now().place, "tests cannot be chained with 'is'");
      const Deeper deeper(*this);
      add(*made, postfix(primary()));
    }
    return negated ? unary_of("not", place, std::move(made)) : std::move(made);
  }

  bool begins_operand() const {
    if (now().type == Type::name) return !is_one_of(now(), {"else", "or", "and"});
    return now().type == Type::string || now().type == Type::integer || now().type == Type::real || is_one_of(now(), {"(", "[", "{"});
  }

  // --- targets
  ExpressionPointer target(bool with_namespace) {
    ExpressionPointer made = make(Kind::tuple, now().place);
    bool has_comma = false;
    while (made->operands.empty() || has_comma) {
      if (is_tuple_end() || now().is("=")) break;
      add(*made, one_target(with_namespace));
      if (!now().is(",")) break;
      next();
      has_comma = true;
    }
    if (made->operands.empty()) refuse(now().place, "a name is expected, not ", shown(now()));
    return has_comma ? std::move(made) : std::move(made->operands[0]);
  }

  ExpressionPointer one_target(bool with_namespace) {
    const Deeper deeper(*this);
    if (skip_if("(")) {
      ExpressionPointer inner = target(with_namespace);
      expect(")");
      return inner;
    }
    const Token token = expect(Type::name, "a name");
    ExpressionPointer made = name_or_constant(token);
    if (made->kind != Kind::name) refuse(token.place, "a value cannot be set to ", shown(token));
    if (with_namespace && now().is(".")) {
      made = attribute(std::move(made));
      if (made->kind != Kind::attribute) refuse(token.place, "a value can be set to a namespace's attribute only");
    }
    return made;
  }

  // --- statements
  Block block(Words ends) {
    const Deeper deeper(*this);
    Block body;
    for (;;) {
      const Token token = now();
      switch (token.type) {
        case Type::end:
          if (ends.size() != 0) refuse(token.place, "'", *(ends.end() - 1), "' is expected, not the template's end");
          return body;
        case Type::data:
          body.push_back({Statement::Kind::data, token.place});
          body.back().text = Value::text(next().text, Origin::template_text);
          break;
        case Type::variable_begin: {
          next();
          Statement output{Statement::Kind::output, token.place};
          output.values.push_back(tuple(true, false));
          expect(Type::variable_end, "the tag's end");
          body.push_back(std::move(output));
          break;
        }
        default:
          next();  // the tag's beginning
          if (is_one_of(now(), ends)) return body;
          statement(body);
          expect(Type::block_end, "the tag's end");
      }
    }
  }

  // A tag's end, and its body up to one of `ends`, which becomes the token to come.
  Block body(Words ends) {
    skip_if(":");
    expect(Type::block_end, "the tag's end");
    return block(ends);
  }

  void statement(Block& out) {
    const Token token = expect(Type::name, "a tag's name");
    const std::string& tag = token.text;
    if (tag == "for") return out.push_back(loop(token.place));
    if (tag == "if") return out.push_back(branches(token.place));
    if (tag == "set") return out.push_back(set(token.place));
    if (tag == "macro") return out.push_back(macro(token.place));
    if (tag == "call") return out.push_back(call_block(token.place));
    if (tag == "filter") return out.push_back(filter_block(token.place));
    if (tag == "with") return out.push_back(with(token.place));
    if (tag == "break" || tag == "continue") {
      if (!in_loop_) refuse(token.place, "'", tag, "' stands outside of a loop");
      return out.push_back({tag == "break" ? Statement::Kind::break_loop : Statement::Kind::continue_loop, token.place});
    }
    if (tag == "generation") {
      Statement generation{Statement::Kind::generation, token.place};
      generation.body = inner_body({"endgeneration"});
      return out.push_back(std::move(generation));
    }
    if (tag == "print") {
      Statement output{Statement::Kind::output, token.place};
      do {
        output.values.push_back(expression());
      } while (skip_if(","));
      return out.push_back(std::move(output));
    }
    refuse(token.place, "the tag ", text::quoted(tag), " is not supported");
  }

  // The body of a tag that has a scope of its own, outside of the loop around it.
  Block inner_body(Words ends) {
    const Soft soft(*this, false);
    const bool before = std::exchange(in_loop_, false);
    Block inner = body(ends);
    in_loop_ = before;
    next();  // the end's name
    return inner;
  }

  Statement set(Place place) {
    Statement made{Statement::Kind::set, place};
    made.targets.push_back(target(true));
    if (skip_if("=")) {
      made.values.push_back(tuple(true, false));
      return made;
    }
    made.kind = Statement::Kind::set_block;
    ExpressionPointer filters = make(Kind::block_text, place);
    while (skip_if("|")) filters = filter(std::move(filters));
    made.values.push_back(std::move(filters));
    made.body = inner_body({"endset"});
    return made;
  }

  Statement loop(Place place) {
    Statement made{Statement::Kind::loop, place};
    made.targets.push_back(target(false));
    if (made.targets[0]->name == "loop") refuse(place, "the loop's variable cannot be 'loop'");
    expect("in");
    made.values.push_back(tuple(false, false));
    const Soft soft(*this, false);
    if (skip_if("if")) made.condition = expression();
    if (now().is("recursive")) refuse(now().place, "a recursive loop is not supported");
    const bool before = std::exchange(in_loop_, true);
    made.body = body({"endfor", "else"});
    in_loop_ = before;
    if (next().text == "else") {
      made.otherwise = body({"endfor"});
      next();
    }
    return made;
  }

  Statement branches(Place place) {
    Statement made{Statement::Kind::branches, place};
    const Soft soft(*this, true);
    for (;;) {
      Branch branch;
      branch.condition = tuple(false, false);
      branch.body = body({"elif", "else", "endif"});
      made.branches.push_back(std::move(branch));
      const std::string end = next().text;
      if (end == "elif") continue;
      if (end == "else") {
        made.branches.push_back({nullptr, body({"endif"})});
        next();
      }
      return made;
    }
  }

  void signature(Signature& signature) {
    expect("(");
    while (!now().is(")")) {
      if (!signature.names.empty()) expect(",");
      const Token name = expect(Type::name, "an argument's name");
      signature.names.push_back(name.text);
      if (skip_if("=")) {
        signature.defaults.push_back(expression());
      } else if (!signature.defaults.empty()) {
        refuse(name.place, "an argument without a default stands behind one that has it");
      }
    }
    expect(")");
  }

  Statement macro(Place place) {
    Statement made{Statement::Kind::macro, place};
    made.name = expect(Type::name, "a macro's name").text;
    Signature* const outer = std::exchange(signature_, &made.signature);
    signature(made.signature);
    made.body = inner_body({"endmacro"});
    signature_ = outer;
    return made;
  }

  Statement call_block(Place place) {
    Statement made{Statement::Kind::call_block, place};
    if (now().is("(")) signature(made.signature);
    ExpressionPointer called = expression();
    if (called->kind != Kind::call) refuse(place, "a call block must call something");
    made.values.push_back(std::move(called));
    made.body = inner_body({"endcall"});
    return made;
  }

  Statement filter_block(Place place) {
    Statement made{Statement::Kind::filter_block, place};
    ExpressionPointer filters = filter(make(Kind::block_text, place));
    while (skip_if("|")) filters = filter(std::move(filters));
    made.values.push_back(std::move(filters));
    made.body = inner_body({"endfilter"});
    return made;
  }

  Statement with(Place place) {
    Statement made{Statement::Kind::with, place};
    while (now().type != Type::block_end) {
      if (!made.targets.empty()) expect(",");
      made.targets.push_back(one_target(false));
      expect("=");
      made.values.push_back(expression());
    }
    made.body = inner_body({"endwith"});
    return made;
  }

  const std::string& name_;
  std::vector<Token> tokens_;
  size_t at_ = 0, depth_ = 0;
  bool soft_ = false, in_loop_ = false;
  std::vector<Unknown> unknown_;
  Signature* signature_ = nullptr;  // of the macro that is read
};

}  // namespace

Block parse(std::string_view source, const std::string& name) { return Parser(source, name).parse(); }

}  // namespace tessera::jinja

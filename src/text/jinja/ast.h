#pragma once
// A template as a tree. Its texts and places are what messages show.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/meter.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

struct Expression;
using ExpressionPointer = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    constant,
    name,        // a variable
    block_text,  // what a block rendered, which filters behind {% set x | f %} and {% filter f %} take
    attribute,   // operands[0].name
    item,        // operands[0][operands[1]]
    slice,       // operands[0][operands[1]:operands[2]:operands[3]]; those not given are null
    call,        // operands[0](the others)
    filter,      // operands[0] | name(the others)
    test,        // operands[0] is name(the others)
    list,
    tuple,
    dict,         // keys and values by turns
    unary,        // operators[0]: + - not
    binary,       // operators[0]: + - * / // % **
    concat,       // ~
    compare,      // operators between the operands
    both,         // and
    either,       // or
    conditional,  // operands[0] if operands[1] else operands[2], which may be null
  };
  Kind kind;
  Place place;
  size_t levels = 1;  // of expressions within it
  std::string name = {};
  Value constant = {};
  std::vector<std::string> operators = {};
  std::vector<ExpressionPointer> operands = {};
  std::vector<std::pair<std::string, ExpressionPointer>> named = {};  // f(name=...)
  ExpressionPointer star = {}, double_star = {};                      // f(*..., **...)
};

struct Statement;
using Block = std::vector<Statement>;

// A macro's, or a call block's own.
struct Signature {
  std::vector<std::string> names;
  std::vector<ExpressionPointer> defaults;                                 // of the last names
  bool takes_caller = false, takes_varargs = false, takes_kwargs = false;  // the body speaks of them
};

struct Branch {
  ExpressionPointer condition;  // null: else
  Block body;
};

struct Statement {
  enum class Kind {
    data,
    output,
    set,
    set_block,
    branches,
    loop,
    break_loop,
    continue_loop,
    macro,
    call_block,
    filter_block,
    with,
    generation
  };
  Kind kind;
  Place place;
  std::string name = {};                        // a macro's
  Value text = {};                              // data
  std::vector<ExpressionPointer> targets = {};  // names, tuples of names, attributes of namespaces
  std::vector<ExpressionPointer> values = {};   // what is set, output, looped over or called; a block's filters
  ExpressionPointer condition = {};             // {% for ... if ... %}
  std::vector<Branch> branches = {};
  Block body = {}, otherwise = {};
  Signature signature = {};
};

}  // namespace tessera::jinja

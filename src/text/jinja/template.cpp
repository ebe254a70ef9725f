#include "text/jinja/template.h"

#include <algorithm>

#include "text/jinja/lexer.h"
#include "text/jinja/parser.h"

namespace tessera::jinja {

Template Template::compile(std::string_view source, std::string name) {
  Template made;
  made.name_ = std::move(name);
  made.block_ = std::make_shared<const Block>(parse(source, made.name_));
  for (Token& token : tokenize(source, made.name_)) {
    if (token.type == Token::Type::data || token.type == Token::Type::string) made.literals_.push_back(std::move(token.text));
    if (token.type == Token::Type::name) made.names_.push_back(std::move(token.text));
  }
  return made;
}

Text Template::render(const Variables& variables, const std::tm& now, const Limits& limits) const {
  Meter meter(limits, name_);
  std::vector<std::pair<std::string_view, Value>> named(variables.begin(), variables.end());
  Interpreter interpreter(meter, now);
  Builder out(meter);
  interpreter.run(*block_, std::move(named), out);
  if (out.size() > limits.output_bytes)
    fail(name_, ": the rendered text has more than ", limits.output_bytes, " bytes; shorten the conversation");
  return out.take();
}

bool Template::names(std::string_view name) const { return std::find(names_.begin(), names_.end(), name) != names_.end(); }

std::vector<std::string_view> Template::literals() const { return {literals_.begin(), literals_.end()}; }

}  // namespace tessera::jinja

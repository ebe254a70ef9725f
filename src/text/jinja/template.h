#pragma once
// A Jinja template, as transformers runs chat templates: jinja2's immutable sandbox with trim_blocks, lstrip_blocks, loop controls, its own
// tojson, raise_exception and strftime_now. The template is data: it has limits, and sees nothing but its variables.
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/meter.h"
#include "text/jinja/text.h"
#include "text/jinja/value.h"

namespace tessera::jinja {

class Template {
 public:
  // `name` begins every message: "chat template, line 3, column 7: ...". Throws FileError for a source that is malformed, longer than
  // kMostSourceBytes, nested too deep, or has a tag, filter or test that is not supported.
  static Template compile(std::string_view source, std::string name);

  using Variables = std::vector<std::pair<std::string, Value>>;

  // The text, with the origin of each byte: the template's own, or a person's, as the variables' are. `now` is the local time of
  // strftime_now. Throws std::invalid_argument for what the template cannot do with the variables and for a limit that it exceeds, and
  // RaisedException with the template's own words.
  Text render(const Variables& variables, const std::tm& now, const Limits& limits) const;

  // Every text that stands in the source: data and strings.
  std::vector<std::string_view> literals() const;
  // Whether the source has this name: of a variable, a function, a keyword.
  bool names(std::string_view name) const;

 private:
  Template() = default;

  std::string name_;
  std::shared_ptr<const Block> block_;
  std::vector<std::string> literals_, names_;
};

}  // namespace tessera::jinja

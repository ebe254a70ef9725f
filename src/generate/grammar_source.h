#pragma once
#include <string>

namespace tessera {

// The form that a text must have.
struct GrammarSource {
  enum class Kind {
    json,            // any JSON object
    json_schema,     // JSON that a schema describes
    regex,           // the whole text
    choice,          // one of a JSON list of texts
    grammar,         // xgrammar's EBNF
    structural_tag,  // xgrammar's JSON of free text and tags whose contents have a form
  };
  Kind kind = Kind::json;
  std::string text = "";  // a schema's JSON, the pattern ...
  bool strict = true;     // json_schema: a keyword that would not be enforced is refused; false: that is not looked for

  bool operator==(const GrammarSource&) const = default;
};

}  // namespace tessera

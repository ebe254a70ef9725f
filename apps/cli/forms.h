#pragma once
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generate/grammar_source.h"
#include "generate/token_constraint.h"
#include "grammar/grammar.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tessera {

// The form that answers are to have; one flag at most.
struct FormFlags {
  std::optional<std::string> json_schema;  // a file
  std::optional<std::string> regex;
};

// Behind add_sampling_flags. `help` begins a flag's text: what is to have the form.
void add_form_flags(CLI::App& command, FormFlags& flags, const std::string& help);

// What the flags say; nullopt: nothing. Throws FileError where the file cannot be read, std::invalid_argument where it is not UTF-8.
std::optional<GrammarSource> form(const FormFlags& flags);

// Forms that are compiled in this process: a text's writer may let it work for long.
class Forms {
 public:
  // `end_tokens` may come when a text is whole, `marks` where a form names them.
  Forms(const Tokenizer& tokenizer, int64_t vocab_size, const std::vector<TokenId>& end_tokens, const std::vector<TokenId>& marks = {})
      : vocabulary_(tokenizer, vocab_size, end_tokens, marks) {}

  // The beginning of a text of this form, which is compiled once. Throws std::invalid_argument.
  std::shared_ptr<const TokenConstraint> constraint(const GrammarSource& source);

 private:
  GrammarVocabulary vocabulary_;
  std::vector<std::pair<GrammarSource, std::shared_ptr<const TokenConstraint>>> known_;
};

}  // namespace tessera

#pragma once
// Texts that keep to a form (JSON, a JSON schema, a regular expression ...): which tokens may come next, by xgrammar.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "generate/grammar_source.h"
#include "generate/token_constraint.h"
#include "text/tokenizer.h"

namespace tessera {

namespace grammar {
struct Vocabulary;
struct Compiled;
}  // namespace grammar

// The bytes of each token of a model. Constant, shared by copies; threads may share it.
class GrammarVocabulary {
 public:
  // vocab_size: the model's, in tokens. A special token, an id without a token and one at or above vocab_size never come from a grammar.
  // end_tokens: what may come when a text is whole, and only then. marks: special tokens that a structural tag may name by id, and that
  // come then. Throws std::invalid_argument where no end token is below vocab_size.
  GrammarVocabulary(const Tokenizer& tokenizer, int64_t vocab_size, const std::vector<TokenId>& end_tokens,
                    const std::vector<TokenId>& marks = {});
  // From the tokens' bytes, empty for one that never comes.
  GrammarVocabulary(std::vector<std::string> tokens, int64_t vocab_size, const std::vector<TokenId>& end_tokens);

  int64_t vocab_size() const;
  const std::vector<std::string>& tokens() const;
  const std::vector<TokenId>& end_tokens() const;

  const grammar::Vocabulary& parts() const { return *parts_; }

 private:
  std::shared_ptr<const grammar::Vocabulary> parts_;
};

// A grammar with the tokens that each of its states takes. Constant; threads may share it.
class CompiledGrammar {
 public:
  explicit CompiledGrammar(std::unique_ptr<const grammar::Compiled> parts);
  ~CompiledGrammar();

  size_t bytes() const;  // of memory, about
  std::string serialised() const;
  // Of what serialised() gave, for the same vocabulary. Throws std::runtime_error.
  static std::shared_ptr<const CompiledGrammar> read(const GrammarVocabulary& vocabulary, const std::string& serialised);

  const grammar::Compiled& parts() const { return *parts_; }

 private:
  std::unique_ptr<const grammar::Compiled> parts_;
};

// Compiles in this thread, with the caps of schema_caps.h, which do not bound all of what a text may cost: for a text of the user's own; a
// stranger's goes to a GrammarCompiler. Throws std::invalid_argument: what is refused, or the part that would not be enforced.
std::shared_ptr<const CompiledGrammar> compile(const GrammarVocabulary& vocabulary, const GrammarSource& source);

// A text of this form, from its begin. allowed() throws also where the last accept() and it took more than 50 ms of processor time.
std::unique_ptr<TokenConstraint> constraint(std::shared_ptr<const CompiledGrammar> grammar);

}  // namespace tessera

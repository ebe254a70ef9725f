#include "grammar/grammar.h"

#include <time.h>

#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "grammar/compiled_form.h"
#include "grammar/schema_caps.h"
#include "grammar/xgrammar_calls.h"
#include "grammar/xgrammar_log.h"

namespace tessera {
namespace {

using Kind = GrammarSource::Kind;

constexpr double kLongestMask = 0.050;  // seconds of processor time

double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// EBNF of one of the texts of a JSON list.
std::string choice_grammar(const std::string& list) {
  const JsonDocument document = parse_json(list, "choice");
  std::string rule = "root ::= ";
  bool is_first = true;
  const JsonArray texts = json_as<JsonArray>(document.root()).value();
  for (const JsonValue each : texts) {
    const std::string_view text = json_as<std::string_view>(each).value();
    if (!std::exchange(is_first, false)) rule += " | ";
    rule += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') rule += '\\';
      if (c == '\n') {
        rule += "\\n";
      } else if (c == '\r') {
        rule += "\\r";
      } else {
        rule += c;
      }
    }
    rule += '"';
  }
  return rule;
}

xgrammar::CompiledGrammar compile_form(xgrammar::GrammarCompiler& compiler, const GrammarSource& source) {
  switch (source.kind) {
    case Kind::json:
      return compiler.CompileJSONSchema(R"({"type": "object"})", true, std::nullopt, std::nullopt, false);
    case Kind::json_schema:
      return compiler.CompileJSONSchema(closed_schema(source.text));
    case Kind::regex:
      return compiler.CompileRegex(source.text);
    case Kind::choice:
      return compiler.CompileGrammar(choice_grammar(source.text));
    case Kind::grammar:
      return compiler.CompileGrammar(source.text);
    case Kind::structural_tag:
      return compiler.CompileStructuralTag(closed_tag(source.text));
  }
  fail("grammar: no such kind of form");
}

class GrammarConstraint final : public TokenConstraint {
 public:
  explicit GrammarConstraint(std::shared_ptr<const CompiledGrammar> grammar)
      : grammar_(std::move(grammar)), matcher_(grammar_->parts().grammar), words_(xgrammar::GetBitmaskSize(vocabulary().GetVocabSize())) {}

  bool allowed(std::span<int32_t> bits) override {
    check(static_cast<int64_t>(bits.size()) >= words_, "grammar: ", bits.size(), " words for the bits of ", vocabulary().GetVocabSize(),
          " tokens");
    check<std::runtime_error>(!matcher_.IsTerminated(), "grammar: nothing may follow the text's end");
    const double begin = thread_seconds();
    DLTensor tensor{.data = bits.data(),
                    .device = {kDLCPU, 0},
                    .ndim = 1,
                    .dtype = xgrammar::GetBitmaskDLType(),
                    .shape = &words_,
                    .strides = nullptr,
                    .byte_offset = 0};
    const bool is_bound = matcher_.FillNextTokenBitmask(&tensor);
    const double seconds = accept_seconds_ + thread_seconds() - begin;
    check<std::runtime_error>(seconds <= kLongestMask, "grammar: the next token's choice took ", seconds * 1e3, " ms of at most ",
                              kLongestMask * 1e3, "; use a simpler form");
    const auto mask = bits.first(static_cast<size_t>(words_));
    check<std::runtime_error>(!is_bound || std::any_of(mask.begin(), mask.end(), [](int32_t word) { return word != 0; }),
                              "grammar: no token of the model continues the text in its form");
    return is_bound;
  }

  void accept(TokenId token) override {
    const double begin = thread_seconds();
    grammar::Warnings unused;
    check(matcher_.AcceptToken(token), "grammar: the token ", token, " does not continue the text in its form");
    accept_seconds_ = thread_seconds() - begin;
  }

  void rollback(int64_t tokens) override { matcher_.Rollback(static_cast<int>(tokens)); }

  std::unique_ptr<TokenConstraint> fork() const override {
    return std::unique_ptr<TokenConstraint>(new GrammarConstraint(grammar_, matcher_.Fork()));
  }

 private:
  GrammarConstraint(std::shared_ptr<const CompiledGrammar> grammar, xgrammar::GrammarMatcher matcher)
      : grammar_(std::move(grammar)), matcher_(std::move(matcher)), words_(xgrammar::GetBitmaskSize(vocabulary().GetVocabSize())) {}

  xgrammar::TokenizerInfo vocabulary() const { return grammar_->parts().grammar.GetTokenizerInfo(); }

  std::shared_ptr<const CompiledGrammar> grammar_;
  xgrammar::GrammarMatcher matcher_;
  int64_t words_;
  double accept_seconds_ = 0;
};

}  // namespace

CompiledGrammar::CompiledGrammar(std::unique_ptr<const grammar::Compiled> parts) : parts_(std::move(parts)) {}
CompiledGrammar::~CompiledGrammar() = default;

size_t CompiledGrammar::bytes() const { return parts_->grammar.MemorySizeBytes(); }

std::string CompiledGrammar::serialised() const { return grammar::write_compiled(parts_->grammar); }

std::shared_ptr<const CompiledGrammar> CompiledGrammar::read(const GrammarVocabulary& vocabulary, const std::string& serialised) {
  return std::make_shared<const CompiledGrammar>(
      std::make_unique<const grammar::Compiled>(grammar::Compiled{grammar::read_compiled(serialised, vocabulary.parts().tokens)}));
}

std::shared_ptr<const CompiledGrammar> compile(const GrammarVocabulary& vocabulary, const GrammarSource& source) {
  if (const auto reason = refusal(source)) fail(*reason);
  const grammar::Warnings warnings;
  std::unique_ptr<const grammar::Compiled> compiled;
  try {
    xgrammar::GrammarCompiler compiler(vocabulary.parts().tokens, 1, false);
    compiled = std::make_unique<const grammar::Compiled>(grammar::Compiled{compile_form(compiler, source)});
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    fail(name_of(source.kind), ": ", grammar::cleaned(error.what()));
  }
  if (source.strict && !warnings.texts().empty())
    fail(name_of(source.kind), ": a part of it would not be enforced: ", grammar::cleaned(warnings.texts().front()));
  const auto grammar = std::make_shared<const CompiledGrammar>(std::move(compiled));
  try {
    std::vector<int32_t> bits(static_cast<size_t>(xgrammar::GetBitmaskSize(static_cast<int>(vocabulary.vocab_size()))));
    constraint(grammar)->allowed(bits);
  } catch (const std::runtime_error& error) {  // no text has the form, or its first token takes too long
    const std::string_view text = error.what();
    fail(name_of(source.kind), text.substr(text.find(':')));
  }
  return grammar;
}

std::unique_ptr<TokenConstraint> constraint(std::shared_ptr<const CompiledGrammar> grammar) {
  return std::make_unique<GrammarConstraint>(std::move(grammar));
}

}  // namespace tessera

// Lets the tests in tests/python reach forms. grammar_tool TOKENIZER END_TOKEN reads lines of JSON,
//   {"kind": "json_schema", "text": "...", "strict": true, "texts": [...], "walks": 3, "tokens": 200}
// and writes one for each: {"refused": "..."} or {"whole": [whether each text has the form], "texts": [what random walks said],
// "stuck": [...]}, where a walk that has not ended after its tokens is null, and "stuck" has the errors of those that could not go on.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "grammar/grammar.h"
#include "grammar/schema_caps.h"

namespace {

using namespace tessera;
using Json = nlohmann::json;

GrammarSource::Kind kind_of(const std::string& name) {
  using Kind = GrammarSource::Kind;
  if (name == "json") return Kind::json;
  if (name == "json_schema") return Kind::json_schema;
  if (name == "regex") return Kind::regex;
  if (name == "choice") return Kind::choice;
  if (name == "grammar") return Kind::grammar;
  check(name == "structural_tag", "no kind ", name);
  return Kind::structural_tag;
}

class Masks {
 public:
  explicit Masks(const GrammarVocabulary& vocabulary)
      : vocabulary_(vocabulary), bits_(static_cast<size_t>(vocabulary.vocab_size() + 31) / 32) {
    for (size_t id = 0; id < vocabulary.tokens().size(); ++id) {
      by_bytes_[vocabulary.tokens()[id]] = static_cast<TokenId>(id);
      longest_ = std::max(longest_, vocabulary.tokens()[id].size());
    }
  }

  // The ids that may come.
  std::vector<TokenId> ids(TokenConstraint& held) {
    const bool is_bound = held.allowed(bits_);
    std::vector<TokenId> ids;
    for (TokenId id = 0; id < vocabulary_.vocab_size(); ++id)
      if (!is_bound || may(id)) ids.push_back(id);
    return ids;
  }
  // Whether the form has the whole text, by the longest tokens.
  bool has(TokenConstraint& held, std::string_view text) {
    while (!text.empty()) {
      size_t bytes = std::min(text.size(), longest_);
      while (!by_bytes_.contains(text.substr(0, bytes))) --bytes;
      const TokenId id = by_bytes_.at(text.substr(0, bytes));
      if (held.allowed(bits_) && !may(id)) return false;
      held.accept(id);
      text.remove_prefix(bytes);
    }
    return !held.allowed(bits_) || may(vocabulary_.end_tokens()[0]);
  }

 private:
  bool may(TokenId id) const { return (bits_[static_cast<size_t>(id) / 32] >> (id % 32)) & 1; }

  const GrammarVocabulary& vocabulary_;
  std::vector<int32_t> bits_;
  std::unordered_map<std::string_view, TokenId> by_bytes_;
  size_t longest_ = 0;
};

// A random text of the form. The rarer a token's first byte among those that may come, the likelier it is: else hardly any text would end.
std::optional<std::string> walk(Masks& masks, const GrammarVocabulary& vocabulary, TokenConstraint& held, int tokens,
                                std::mt19937& random) {
  std::string text;
  for (int i = 0; i < tokens; ++i) {
    std::vector<std::vector<TokenId>> by_byte(257);
    for (const TokenId id : masks.ids(held)) {
      const std::string& token = vocabulary.tokens()[static_cast<size_t>(id)];
      by_byte[id == vocabulary.end_tokens()[0] ? 256 : static_cast<unsigned char>(token[0])].push_back(id);
    }
    std::erase_if(by_byte, [](const auto& ids) { return ids.empty(); });
    const auto& ids = by_byte[random() % by_byte.size()];
    const TokenId id = ids[random() % ids.size()];
    if (id == vocabulary.end_tokens()[0]) return text;
    text += vocabulary.tokens()[static_cast<size_t>(id)];
    held.accept(id);
  }
  return std::nullopt;
}

Json answer(Masks& masks, const GrammarVocabulary& vocabulary, const Json& line, std::mt19937& random) {
  Json answer;
  std::shared_ptr<const CompiledGrammar> form;
  try {
    form = compile(vocabulary, {kind_of(line.at("kind")), line.at("text"), line.value("strict", true)});
    form = CompiledGrammar::read(vocabulary, form->serialised());
  } catch (const std::invalid_argument& error) {
    return {{"refused", error.what()}};
  }
  answer["whole"] = Json::array();
  const std::vector<std::string> texts = line.value("texts", std::vector<std::string>());
  for (const std::string& text : texts) answer["whole"].push_back(masks.has(*constraint(form), text));
  answer["texts"] = Json::array();
  for (int i = 0; i < line.value("walks", 0); ++i) {
    try {
      const auto text = walk(masks, vocabulary, *constraint(form), line.value("tokens", 200), random);
      answer["texts"].push_back(text ? Json(*text) : Json());
    } catch (const std::runtime_error& error) {
      answer["stuck"].push_back(error.what());
    }
  }
  return answer;
}

}  // namespace

int main(int, char** argv) {
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const GrammarVocabulary vocabulary(tokenizer, tokenizer.vocab_size(), {tokenizer.token_to_id(argv[2]).value()});
  Masks masks(vocabulary);
  std::mt19937 random(1);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer(masks, vocabulary, Json::parse(line), random).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

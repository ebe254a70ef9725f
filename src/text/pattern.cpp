#include "text/pattern.h"

namespace tessera::text {

Pattern::Pattern(const Fields& fields, std::string_view key) {
  const Fields object = fields.object(key);
  object.allow({"String", "Regex"});
  const bool is_literal = object.find("String").has_value();
  if (is_literal == object.find("Regex").has_value()) fields.refuse(key, "must have one of the fields \"String\" and \"Regex\"");
  if (is_literal) {
    pattern_ = std::string(object.text("String", kLongestLiteral));
    if (std::get<std::string>(pattern_).empty()) object.refuse("String", "must not be empty");
  } else {
    pattern_ = Regex(object.text("Regex"), object.path_of("Regex"));
  }
}

std::vector<Range> Pattern::matches(std::string_view text) const {
  if (const Regex* regex = std::get_if<Regex>(&pattern_)) return regex->matches(text);
  const auto& literal = std::get<std::string>(pattern_);
  std::vector<Range> found;
  for (size_t at = text.find(literal); at != std::string_view::npos; at = text.find(literal, at + literal.size()))
    found.push_back({at, at + literal.size()});
  return found;
}

std::string Pattern::replaced(std::string_view text, std::string_view content) const {
  const std::vector<Range> found = matches(text);
  check(content.empty() || found.size() < (kLongestText - text.size()) / content.size(), "tokenizer: a text of ", text.size(),
        " bytes would grow to more than ", kLongestText, " by its replacements");
  std::string out;
  size_t copied = 0;
  for (const Range& match : found) {
    out += text.substr(copied, match.begin - copied);
    out += content;
    copied = match.end;
  }
  return out += text.substr(copied);
}

}  // namespace tessera::text

#pragma once
// The "pattern" of a Replace or Split: a literal text or a regular expression.
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/fields.h"
#include "text/regex.h"

namespace tessera::text {

// No text may be or grow longer than this; a tokenizer.json could otherwise double it in every step.
inline constexpr size_t kLongestText = size_t{1} << 28;  // bytes

class Pattern {
 public:
  // The field `key` of `fields`: {"String": "..."} or {"Regex": "..."}.
  Pattern(const Fields& fields, std::string_view key);
  explicit Pattern(std::string literal) : pattern_(std::move(literal)) {}
  explicit Pattern(Regex regex) : pattern_(std::move(regex)) {}

  // As Regex::matches.
  std::vector<Range> matches(std::string_view text) const;

  // `text` with every match replaced by `content`. Throws std::invalid_argument when that is longer than kLongestText.
  std::string replaced(std::string_view text, std::string_view content) const;

 private:
  std::variant<std::string, Regex> pattern_;
};

}  // namespace tessera::text

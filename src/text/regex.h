#pragma once
// Regular expressions of a tokenizer.json: written for the Oniguruma engine in its Ruby syntax, run here by PCRE2.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::text {

struct Range {
  size_t begin;
  size_t end;
};

// The same expression for PCRE2, with Unicode 16's categories: what means something else there (\s, \v, \p{L}, \p{Han}, ...) is rewritten,
// what has no sure counterpart (\w, \b, \h, back references, nested classes, ...) is refused. Throws FileError that begins with `path`.
std::string translate_regex(std::string_view pattern, const std::string& path);

class Regex {
 public:
  // Throws FileError that begins with `path` when the pattern is invalid, not supported, or too large.
  Regex(std::string_view pattern, const std::string& path);

  // All matches in valid UTF-8, first to last; one may be empty, but not where the one before it ended.
  // Throws std::invalid_argument when a match takes more than a million steps and 8 for each byte (catastrophic
  // backtracking).
  std::vector<Range> matches(std::string_view text) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace tessera::text

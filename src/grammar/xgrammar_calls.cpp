#include "grammar/xgrammar_calls.h"

namespace tessera::grammar {

std::string cleaned(std::string_view text) {
  constexpr size_t kLongest = 300;
  std::string line;
  for (const char c : text.substr(0, kLongest)) line += c >= ' ' && c <= '~' ? c : c == '\n' || c == '\t' ? ' ' : '?';
  while (!line.empty() && line.back() == ' ') line.pop_back();
  if (text.size() > kLongest) line += "...";
  return line;
}

}  // namespace tessera::grammar

#pragma once
// A template's source cut into tokens, as Jinja does with trim_blocks and lstrip_blocks.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/meter.h"

namespace tessera::jinja {

struct Token {
  enum class Type { data, block_begin, block_end, variable_begin, variable_end, name, string, integer, real, op, end };
  Type type;
  Place place;
  std::string text;  // of data, names, operators; a string's value
  int64_t integer = 0;
  double real = 0;

  bool is(std::string_view wanted) const { return (type == Type::op || type == Type::name) && text == wanted; }
};

inline constexpr size_t kMostSourceBytes = size_t{1} << 20;

// The tokens of a source, the last of type end. Throws FileError: "NAME, line 3, column 7: ...".
std::vector<Token> tokenize(std::string_view source, const std::string& name);

}  // namespace tessera::jinja

#pragma once
// The "normalizer" of a tokenizer.json: Replace, Prepend, NFC, NFD, NFKC, NFKD, Lowercase, Strip and Sequence.
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace tessera::text {

class Normalizer {
 public:
  Normalizer() = default;  // leaves a text as it is
  explicit Normalizer(const Fields& fields) { add(fields, 0); }

  // `text` is valid UTF-8, and so is the result.
  std::string operator()(std::string_view text) const;

 private:
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Prepend {
    std::string text;
  };
  struct Unicode {
    int options;  // utf8proc's
  };
  struct Lowercase {};
  struct Strip {
    bool left, right;
  };
  using Step = std::variant<Replace, Prepend, Unicode, Lowercase, Strip>;

  void add(const Fields& fields, int depth);
  static std::string apply(const Step& step, std::string text);

  std::vector<Step> steps_;
};

}  // namespace tessera::text

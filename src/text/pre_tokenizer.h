#pragma once
// The "pre_tokenizer" of a tokenizer.json: Split, ByteLevel, Digits, Punctuation, Metaspace, WhitespaceSplit and Sequence.
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace tessera::text {

// A text cut into words. No word is empty; what lies between words is dropped.
struct Words {
  std::string text;
  std::vector<Range> ranges;
  bool begins_input;  // the first word begins where the whole input begins
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // the whole text is one word
  explicit PreTokenizer(const Fields& fields) { add(fields, 0); }

  // Cuts `words` further; its text may change (ByteLevel, Metaspace). Throws std::invalid_argument as Regex::matches does.
  void apply(Words& words) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  enum class PrependScheme { always, first, never };
  struct Split {
    Pattern pattern;
    Behavior behavior;
    bool invert;
  };
  struct ByteLevel {
    bool add_prefix_space, use_regex;
  };
  struct Metaspace {
    std::string replacement;
    PrependScheme prepend_scheme;
    bool split;
  };
  using Step = std::variant<Split, ByteLevel, Metaspace>;

  void add(const Fields& fields, int depth);
  static Behavior behavior_of(const Fields& fields, std::optional<Behavior> if_absent = std::nullopt);
  void add_split(const Fields& fields);
  void add_metaspace(const Fields& fields);
  static void split(Words& words, const Pattern& pattern, Behavior behavior, bool invert);
  static std::vector<Range> pieces(std::string_view text, const Pattern& pattern, Behavior behavior, bool invert);
  static void apply(const ByteLevel& step, Words& words);
  static void apply(const Metaspace& step, Words& words);

  std::vector<Step> steps_;
};

}  // namespace tessera::text

#include "text/pre_tokenizer.h"

#include <algorithm>
#include <functional>

#include "text/byte_level.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

constexpr int kDeepest = 8;
constexpr size_t kMostSteps = 64;
constexpr char kGpt2Words[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Pattern built_in(const char* regex) { return Pattern(Regex(regex, "built-in pattern")); }

// Writes every word anew: `write` appends a word's new text to the first argument.
void rewrite(Words& words, const std::function<void(std::string&, std::string_view word, size_t index)>& write) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 8);
  for (size_t i = 0; i < words.ranges.size(); ++i) {
    Range& range = words.ranges[i];
    const size_t begin = text.size();
    write(text, std::string_view(words.text).substr(range.begin, range.end - range.begin), i);
    range = {begin, text.size()};
    check(text.size() <= kLongestText, "tokenizer: a text grows to more than ", kLongestText, " bytes in the pre-tokenizer");
  }
  words.text = std::move(text);
}

}  // namespace

void PreTokenizer::add(const Fields& fields, int depth) {
  const std::string_view type = fields.text("type");
  if (type == "Sequence") {
    fields.allow({"pretokenizers"});
    if (depth == kDeepest) fields.refuse("pretokenizers", "are nested more than ", kDeepest, " levels deep");
    fields.each_object("pretokenizers", kMostSteps, [&](const Fields& part) { add(part, depth + 1); });
  } else if (type == "Split") {
    add_split(fields);
  } else if (type == "ByteLevel") {
    fields.allow({"add_prefix_space", "trim_offsets", "use_regex"});
    steps_.push_back(ByteLevel{fields.flag("add_prefix_space"), fields.flag("use_regex", true)});
  } else if (type == "Digits") {
    fields.allow({"individual_digits"});
    steps_.push_back(Split{built_in("\\p{N}"), fields.flag("individual_digits") ? Behavior::isolated : Behavior::contiguous, false});
  } else if (type == "Metaspace") {
    add_metaspace(fields);
  } else if (type == "WhitespaceSplit") {
    fields.allow({});
    steps_.push_back(Split{built_in("\\s"), Behavior::removed, false});
  } else {
    fields.refuse("type", "the pre-tokenizer ", quoted(type), " is not supported");
  }
  if (steps_.size() > kMostSteps) fields.refuse("type", "there are more than ", kMostSteps, " pre-tokenizers");
}

void PreTokenizer::add_split(const Fields& fields) {
  fields.allow({"pattern", "behavior", "invert"});
  constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {{"Removed", Behavior::removed},
                                                                  {"Isolated", Behavior::isolated},
                                                                  {"MergedWithPrevious", Behavior::merged_with_previous},
                                                                  {"MergedWithNext", Behavior::merged_with_next},
                                                                  {"Contiguous", Behavior::contiguous}};
  const std::string_view name = fields.text("behavior");
  const auto* behavior = std::find_if(std::begin(kBehaviors), std::end(kBehaviors), [&](const auto& entry) { return entry.first == name; });
  if (behavior == std::end(kBehaviors)) fields.refuse("behavior", quoted(name), " is not known");
  steps_.push_back(Split{Pattern(fields, "pattern"), behavior->second, fields.flag("invert")});
}

void PreTokenizer::add_metaspace(const Fields& fields) {
  fields.allow({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
  const std::string_view name = fields.find("prepend_scheme") ? fields.text("prepend_scheme") : "always";
  constexpr std::pair<std::string_view, PrependScheme> kSchemes[] = {
      {"always", PrependScheme::always}, {"first", PrependScheme::first}, {"never", PrependScheme::never}};
  const auto* scheme = std::find_if(std::begin(kSchemes), std::end(kSchemes), [&](const auto& entry) { return entry.first == name; });
  if (scheme == std::end(kSchemes)) fields.refuse("prepend_scheme", quoted(name), " is not known");
  if (!fields.flag("add_prefix_space", true) && scheme->second != PrependScheme::never)
    fields.refuse("add_prefix_space", "is false, but prepend_scheme is ", quoted(name));
  steps_.push_back(Metaspace{to_utf8(fields.character("replacement")), scheme->second, fields.flag("split", true)});
}

// The ranges of `text` that a split makes of it, empty ones included.
std::vector<Range> PreTokenizer::pieces(std::string_view text, const Pattern& pattern, Behavior behavior, bool invert) {
  struct Piece {
    Range range;
    bool is_match;
  };
  std::vector<Piece> parts;
  size_t end = 0;
  for (const Range& match : pattern.matches(text)) {
    if (end != match.begin) parts.push_back({{end, match.begin}, invert});
    parts.push_back({match, !invert});
    end = match.end;
  }
  if (end != text.size()) parts.push_back({{end, text.size()}, invert});

  const bool reversed = behavior == Behavior::merged_with_next;
  if (reversed) std::reverse(parts.begin(), parts.end());
  std::vector<Range> out;
  bool follows_match = false;
  for (const Piece& part : parts) {
    const bool joins = behavior == Behavior::contiguous                         ? part.is_match == follows_match
                       : behavior == Behavior::merged_with_previous || reversed ? part.is_match && !follows_match
                                                                                : false;
    if (joins && !out.empty()) {
      if (reversed) {
        out.back().begin = part.range.begin;
      } else {
        out.back().end = part.range.end;
      }
    } else if (behavior != Behavior::removed || !part.is_match) {
      out.push_back(part.range);
    }
    follows_match = part.is_match;
  }
  if (reversed) std::reverse(out.begin(), out.end());
  return out;
}

void PreTokenizer::split(Words& words, const Pattern& pattern, Behavior behavior, bool invert) {
  std::vector<Range> cut;
  for (const Range& word : words.ranges) {
    for (const Range& piece : pieces(std::string_view(words.text).substr(word.begin, word.end - word.begin), pattern, behavior, invert))
      if (piece.begin != piece.end) cut.push_back({word.begin + piece.begin, word.begin + piece.end});
  }
  if (!cut.empty() && cut.front().begin != words.ranges.front().begin) words.begins_input = false;
  words.ranges = std::move(cut);
}

void PreTokenizer::apply(const ByteLevel& step, Words& words) {
  if (step.add_prefix_space) {
    rewrite(words, [](std::string& text, std::string_view word, size_t) {
      if (!word.starts_with(' ')) text += ' ';
      text += word;
    });
  }
  if (step.use_regex) {
    static const Pattern gpt2_words = built_in(kGpt2Words);
    split(words, gpt2_words, Behavior::isolated, false);
  }
  rewrite(words, [](std::string& text, std::string_view word, size_t) { append_byte_letters(text, word); });
}

void PreTokenizer::apply(const Metaspace& step, Words& words) {
  const Pattern space(" ");
  rewrite(words, [&](std::string& text, std::string_view word, size_t index) {
    const std::string replaced = space.replaced(word, step.replacement);
    const bool wanted =
        step.prepend_scheme == PrependScheme::always || (step.prepend_scheme == PrependScheme::first && index == 0 && words.begins_input);
    if (wanted && !replaced.starts_with(step.replacement)) text += step.replacement;
    text += replaced;
  });
  if (step.split) split(words, Pattern(step.replacement), Behavior::merged_with_next, false);
}

void PreTokenizer::apply(Words& words) const {
  for (const Step& step : steps_) {
    if (const auto* cut = std::get_if<Split>(&step)) {
      split(words, cut->pattern, cut->behavior, cut->invert);
    } else if (const auto* bytes = std::get_if<ByteLevel>(&step)) {
      apply(*bytes, words);
    } else {
      apply(std::get<Metaspace>(step), words);
    }
  }
}

}  // namespace tessera::text

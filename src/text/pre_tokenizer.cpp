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

// ASCII's and Unicode 8's punctuation: the `tokenizers` library's table is of that version.
constexpr char kPunctuation[] =
    R"([\x{21}-\x{2F}\x{3A}-\x{40}\x{5B}-\x{60}\x{7B}-\x{7E}\x{A1}\x{A7}\x{AB}\x{B6}-\x{B7}\x{BB}\x{BF}\x{37E}\x{387})"
    R"(\x{55A}-\x{55F}\x{589}-\x{58A}\x{5BE}\x{5C0}\x{5C3}\x{5C6}\x{5F3}-\x{5F4}\x{609}-\x{60A}\x{60C}-\x{60D}\x{61B})"
    R"(\x{61E}-\x{61F}\x{66A}-\x{66D}\x{6D4}\x{700}-\x{70D}\x{7F7}-\x{7F9}\x{830}-\x{83E}\x{85E}\x{964}-\x{965}\x{970}\x{AF0})"
    R"(\x{DF4}\x{E4F}\x{E5A}-\x{E5B}\x{F04}-\x{F12}\x{F14}\x{F3A}-\x{F3D}\x{F85}\x{FD0}-\x{FD4}\x{FD9}-\x{FDA}\x{104A}-\x{104F})"
    R"(\x{10FB}\x{1360}-\x{1368}\x{1400}\x{166D}-\x{166E}\x{169B}-\x{169C}\x{16EB}-\x{16ED}\x{1735}-\x{1736}\x{17D4}-\x{17D6})"
    R"(\x{17D8}-\x{17DA}\x{1800}-\x{180A}\x{1944}-\x{1945}\x{1A1E}-\x{1A1F}\x{1AA0}-\x{1AA6}\x{1AA8}-\x{1AAD}\x{1B5A}-\x{1B60})"
    R"(\x{1BFC}-\x{1BFF}\x{1C3B}-\x{1C3F}\x{1C7E}-\x{1C7F}\x{1CC0}-\x{1CC7}\x{1CD3}\x{2010}-\x{2027}\x{2030}-\x{2043})"
    R"(\x{2045}-\x{2051}\x{2053}-\x{205E}\x{207D}-\x{207E}\x{208D}-\x{208E}\x{2308}-\x{230B}\x{2329}-\x{232A}\x{2768}-\x{2775})"
    R"(\x{27C5}-\x{27C6}\x{27E6}-\x{27EF}\x{2983}-\x{2998}\x{29D8}-\x{29DB}\x{29FC}-\x{29FD}\x{2CF9}-\x{2CFC}\x{2CFE}-\x{2CFF})"
    R"(\x{2D70}\x{2E00}-\x{2E2E}\x{2E30}-\x{2E42}\x{3001}-\x{3003}\x{3008}-\x{3011}\x{3014}-\x{301F}\x{3030}\x{303D}\x{30A0})"
    R"(\x{30FB}\x{A4FE}-\x{A4FF}\x{A60D}-\x{A60F}\x{A673}\x{A67E}\x{A6F2}-\x{A6F7}\x{A874}-\x{A877}\x{A8CE}-\x{A8CF})"
    R"(\x{A8F8}-\x{A8FA}\x{A8FC}\x{A92E}-\x{A92F}\x{A95F}\x{A9C1}-\x{A9CD}\x{A9DE}-\x{A9DF}\x{AA5C}-\x{AA5F}\x{AADE}-\x{AADF})"
    R"(\x{AAF0}-\x{AAF1}\x{ABEB}\x{FD3E}-\x{FD3F}\x{FE10}-\x{FE19}\x{FE30}-\x{FE52}\x{FE54}-\x{FE61}\x{FE63}\x{FE68})"
    R"(\x{FE6A}-\x{FE6B}\x{FF01}-\x{FF03}\x{FF05}-\x{FF0A}\x{FF0C}-\x{FF0F}\x{FF1A}-\x{FF1B}\x{FF1F}-\x{FF20}\x{FF3B}-\x{FF3D})"
    R"(\x{FF3F}\x{FF5B}\x{FF5D}\x{FF5F}-\x{FF65}\x{10100}-\x{10102}\x{1039F}\x{103D0}\x{1056F}\x{10857}\x{1091F}\x{1093F})"
    R"(\x{10A50}-\x{10A58}\x{10A7F}\x{10AF0}-\x{10AF6}\x{10B39}-\x{10B3F}\x{10B99}-\x{10B9C}\x{11047}-\x{1104D})"
    R"(\x{110BB}-\x{110BC}\x{110BE}-\x{110C1}\x{11140}-\x{11143}\x{11174}-\x{11175}\x{111C5}-\x{111C9}\x{111CD}\x{111DB})"
    R"(\x{111DD}-\x{111DF}\x{11238}-\x{1123D}\x{112A9}\x{114C6}\x{115C1}-\x{115D7}\x{11641}-\x{11643}\x{1173C}-\x{1173E})"
    R"(\x{12470}-\x{12474}\x{16A6E}-\x{16A6F}\x{16AF5}\x{16B37}-\x{16B3B}\x{16B44}\x{1BC9F}\x{1DA87}-\x{1DA8B}])";

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
  } else if (type == "Punctuation") {
    fields.allow({"behavior"});
    steps_.push_back(Split{built_in(kPunctuation), behavior_of(fields, Behavior::isolated), false});
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

PreTokenizer::Behavior PreTokenizer::behavior_of(const Fields& fields, std::optional<Behavior> if_absent) {
  if (if_absent && !fields.find("behavior")) return *if_absent;
  constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {{"Removed", Behavior::removed},
                                                                  {"Isolated", Behavior::isolated},
                                                                  {"MergedWithPrevious", Behavior::merged_with_previous},
                                                                  {"MergedWithNext", Behavior::merged_with_next},
                                                                  {"Contiguous", Behavior::contiguous}};
  const std::string_view name = fields.text("behavior");
  const auto* behavior = std::find_if(std::begin(kBehaviors), std::end(kBehaviors), [&](const auto& entry) { return entry.first == name; });
  if (behavior == std::end(kBehaviors)) fields.refuse("behavior", quoted(name), " is not known");
  return behavior->second;
}

void PreTokenizer::add_split(const Fields& fields) {
  fields.allow({"pattern", "behavior", "invert"});
  const Behavior behavior = behavior_of(fields);
  steps_.push_back(Split{Pattern(fields, "pattern"), behavior, fields.flag("invert")});
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

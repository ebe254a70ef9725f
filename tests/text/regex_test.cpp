#include "text/regex.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "text/utf8.h"

namespace tessera::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> found(const char* pattern, std::string_view text) {
  std::vector<std::string> matches;
  for (const Range& range : Regex(pattern, "test").matches(text)) matches.emplace_back(text.substr(range.begin, range.end - range.begin));
  return matches;
}

std::string error_of(const char* pattern) {
  try {
    Regex(pattern, "test.json: field");
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

TEST(regex, cuts_words_as_gpt_2_does) {
  EXPECT_THAT(found(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "I've  3 caf\u00e9s!\n\n x"),
              ElementsAre("I", "'ve", " ", " 3", " caf\u00e9s", "!", "\n\n", " x"));
}

TEST(regex, may_match_nothing_but_not_where_the_last_match_ended) { EXPECT_THAT(found("a*", "baac"), ElementsAre("", "aa", "")); }

TEST(regex, means_white_space_by_backslash_s) {
  EXPECT_THAT(found("\\s", "\u180E\u3000\u0085"), ElementsAre("\u3000", "\u0085")) << "U+180E has not been white space since Unicode 6.3";
  EXPECT_THAT(found("[^\\s]", "\u180E "), ElementsAre("\u180E"));
}

TEST(regex, knows_letters_and_digits_of_unicode_16) {
  EXPECT_THAT(found("\\p{L}+", "\U000323AFx\U00010D50."), ElementsAre("\U000323AFx\U00010D50"));  // CJK extension H; Garay
  EXPECT_THAT(found("[\\p{L}]", "\U0002EBF0"), ElementsAre("\U0002EBF0"));
  EXPECT_THAT(found("\\P{N}", "\U00010D40."), ElementsAre("."));
  EXPECT_THAT(found("[^\\p{N}]", "\U00010D40."), ElementsAre("."));
}

TEST(regex, takes_a_circumflex_and_a_dollar_for_those_of_a_line) { EXPECT_THAT(found("^a|a$", "ab\naca\nb"), ElementsAre("a", "a", "a")); }

TEST(regex, fails_in_bounded_time_when_it_backtracks_without_end) {
  const Regex regex("(a+)+$", "test");
  EXPECT_EQ(regex.matches(std::string(15, 'a')).size(), 1u);
  try {
    regex.matches(std::string(40, 'a') + "!");
    FAIL() << "no error";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("\"(a+)+$\""));
    EXPECT_THAT(error.what(), HasSubstr("match limit"));
  }
}

TEST(regex, matches_long_texts_of_ordinary_patterns) {
  const std::string spaces(1'000'000, ' ');
  EXPECT_EQ(found(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "x").size(), 2u);
  EXPECT_EQ(found("(?:ab)+",
                  [] {
                    std::string text;
                    for (int i = 0; i < 100'000; ++i) text += "ab";
                    return text;
                  }())
                .size(),
            1u);
}

TEST(regex, refuses_what_is_invalid_naming_the_field) {
  EXPECT_THAT(error_of("(a"), HasSubstr("test.json: field: "));
  EXPECT_EQ(error_of("(a)"), "");
  EXPECT_THAT(error_of("[a"), HasSubstr("is not valid"));
  EXPECT_EQ(error_of("[a]"), "");
  EXPECT_THAT(error_of("*"), HasSubstr("is not valid"));
  EXPECT_THAT(error_of("\\p{Nonsense}"), HasSubstr("is not valid"));
  EXPECT_EQ(error_of("\\p{Greek}"), "");
  EXPECT_THAT(error_of("\\x{110000}"), HasSubstr("is not valid"));
}

TEST(regex, refuses_what_means_something_else_in_the_other_engine) {
  for (const char* pattern : {"\\w",   "\\b",     "\\h",     "\\R",   "\\K",   "\\1",   "\\x41", "[a[b]]", "[a&&b]", "[]a]",
                              "(?m)a", "(?<n>a)", "(*FAIL)", "a{,2}", "a{2}?", "a{2}+", "a{",    "\\",     "b(?i)a", "[\\P{L}]"})
    EXPECT_THAT(error_of(pattern), HasSubstr("is not supported")) << pattern;
  for (const char* pattern : {"\\s", "[ab]", "(?:a)", "(?i)a", "a{2}", "a{2,}", "a{1,2}", "\\\\", "a+?", "a++", "\\{", "\\\u00e9"})
    EXPECT_EQ(error_of(pattern), "") << pattern;
}

TEST(regex, refuses_what_is_too_large) {
  EXPECT_THAT(error_of(std::string(70'000, 'a').c_str()), HasSubstr("70000 bytes"));
  EXPECT_THAT(error_of("((a{1000}){1000}){1000}"), HasSubstr("is not valid"));
  EXPECT_THAT(error_of((std::string(1000, '(') + std::string(1000, ')')).c_str()), HasSubstr("is not valid"));
}

}  // namespace
}  // namespace tessera::text

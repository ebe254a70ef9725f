#include "text/utf8.h"

#include <gtest/gtest.h>

namespace tessera::text {
namespace {

std::string lossy(std::string_view bytes) {
  std::string text;
  EXPECT_EQ(append_lossy_utf8(text, bytes, Cut::replace), bytes.size());
  return text;
}

// `count` times U+FFFD, then `rest`.
std::string replaced(int count, std::string rest) {
  std::string text;
  while (count-- > 0) text += kReplacementCharacter;
  return text + rest;
}

// The Unicode standard, chapter 3.9, tables 3-8 to 3-11.
TEST(utf8, replaces_maximal_subparts_as_the_standards_tables_show) {
  EXPECT_EQ(lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), replaced(8, "A"));
  EXPECT_EQ(lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), replaced(8, "A"));
  EXPECT_EQ(lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), replaced(5, "A") + replaced(2, "B"));
  EXPECT_EQ(lossy("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), replaced(4, "A"));
}

TEST(utf8, writes_and_reads_every_character) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    const std::string text = to_utf8(c);
    const Utf8Character character = first_character(text + "x");
    const bool is_surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(character.valid, !is_surrogate) << static_cast<uint32_t>(c);
    if (!is_surrogate) {
      ASSERT_EQ(static_cast<uint32_t>(character.code_point), static_cast<uint32_t>(c));
      ASSERT_EQ(character.bytes, text.size());
      ASSERT_EQ(utf8_length(text[0]), text.size());
    }
  }
}

TEST(utf8, tells_a_cut_character_from_a_wrong_one) {
  EXPECT_TRUE(first_character("\xF0\x9F\x99").cut);
  EXPECT_FALSE(first_character("\xF0\x9F\x41").cut);
  EXPECT_FALSE(first_character("\xF0\x80").cut);
  std::string text;
  EXPECT_EQ(append_lossy_utf8(text, "a\xF0\x9F", Cut::keep), 1u);
  EXPECT_EQ(text, "a");
}

TEST(utf8, finds_the_first_byte_that_belongs_to_no_character) {
  EXPECT_EQ(find_invalid_utf8("a\xC3\xA9"), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("a\xC3\xA9\xC3"), 3u);
}

}  // namespace
}  // namespace tessera::text

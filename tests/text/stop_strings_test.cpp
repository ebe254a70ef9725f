#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace tessera {
namespace {

TEST(stop_strings, are_found_across_pieces_and_never_shown) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(stops.push("one E"), "one ");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_EQ(stops.push("ter EN"), "ENter ");
  EXPECT_FALSE(stops.found());
  EXPECT_EQ(stops.push("D rest"), "");
  EXPECT_TRUE(stops.found());
  EXPECT_EQ(stops.push("more"), "");
  EXPECT_EQ(stops.flush(), "");
}

TEST(stop_strings, the_first_in_the_text_wins) {
  StopStrings stops({"bc", "ab"});
  EXPECT_EQ(stops.string(), "");
  EXPECT_EQ(stops.push("xxabcx"), "xx");
  EXPECT_TRUE(stops.found());
  EXPECT_EQ(stops.string(), "ab");
}

TEST(stop_strings, what_was_held_back_comes_at_the_end) {
  StopStrings stops({"aab"});
  EXPECT_EQ(stops.push("xaa"), "x");
  EXPECT_EQ(stops.push("a"), "a");
  EXPECT_EQ(stops.flush(), "aa");
  EXPECT_FALSE(stops.found());
}

TEST(stop_strings, without_any_everything_passes) {
  StopStrings stops({});
  EXPECT_EQ(stops.push("all of it"), "all of it");
}

TEST(stop_strings, may_begin_in_what_stands_before_and_not_end_there) {
  StopStrings stops({"END", "xx"});
  stops.begin_behind("a END xx E");
  EXPECT_EQ(stops.push("N"), "");
  EXPECT_FALSE(stops.found());
  EXPECT_EQ(stops.push("x"), "N");  // the E is not of the stream, the x may begin another
  EXPECT_EQ(stops.flush(), "x");
  StopStrings again({"END"});
  again.begin_behind("EN");
  EXPECT_EQ(again.push("D rest"), "");
  EXPECT_TRUE(again.found());
}

TEST(stop_strings, are_found_in_what_is_not_shown) {
  StopStrings stops({"b<end>"});
  EXPECT_EQ(stops.push("a"), "a");
  EXPECT_EQ(stops.pass("<end>"), "");
  EXPECT_EQ(stops.push("ab"), "a");
  EXPECT_EQ(stops.pass("<e"), "");
  EXPECT_EQ(stops.push("c"), "bc");
  EXPECT_EQ(stops.push("b"), "");
  EXPECT_EQ(stops.pass("<end>"), "");
  EXPECT_TRUE(stops.found());
}

TEST(stop_strings, an_empty_one_is_refused) { EXPECT_THROW(StopStrings({""}), std::invalid_argument); }

}  // namespace
}  // namespace tessera

#include "core/json.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace tessera {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "test.json", limits);
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

TEST(json, accepts_what_is_valid) {
  const JsonDocument document = parse_json(R"({"a": [1, 2.5, null, "\u00e9"], "b": {"a": 1}})", "test.json");
  const Json& json = document.root();
  EXPECT_EQ(json["a"][0].get<int>(), 1);
  EXPECT_EQ(json["b"]["a"].get<int>(), 1);
}

TEST(json, refuses_duplicate_keys_naming_the_key) {
  EXPECT_NE(error_of(R"({"a": 1, "a": 2})").find("\"a\" stands twice"), std::string::npos);
  EXPECT_EQ(error_of(R"([{"a": 1}, {"a": 2}])"), "");
}

TEST(json, refuses_deep_nesting_quickly) {
  EXPECT_NE(error_of(std::string(100000, '[')).find("nested"), std::string::npos);
  EXPECT_EQ(error_of("[[[1]]]", {.max_depth = 4}), "");
  EXPECT_NE(error_of("[[[[[1]]]]]", {.max_depth = 4}), "");
}

TEST(json, refuses_invalid_utf8_and_truncation_naming_the_byte) {
  EXPECT_NE(error_of("{\"a\": \"\xff\"}").find("byte"), std::string::npos);
  EXPECT_NE(error_of("{\"a\": 1").find("byte 8"), std::string::npos);
  EXPECT_NE(error_of("").find("byte"), std::string::npos);
}

TEST(json, refuses_a_nul_and_a_byte_order_mark) {
  using namespace std::string_view_literals;
  EXPECT_NE(error_of("{\"a\": 1}\0junk"sv).find("byte 9"), std::string::npos);
  EXPECT_NE(error_of("\0"sv), "");
  EXPECT_NE(error_of("\xEF\xBB\xBF{\"a\": 1}").find("byte-order mark"), std::string::npos);
  EXPECT_EQ(error_of("{\"a\": 1}\n"), "");
  EXPECT_EQ(error_of("{\"\\u0000\": 1}"), "");
}

TEST(json, quotes_foreign_text_on_one_short_printable_line) {
  EXPECT_EQ(message(printable("model.norm")), "\"model.norm\"");
  EXPECT_EQ(message(printable("a\n\x1b[2J\xff\xc3\xa9")), "\"a\\n\\u001b[2J\\ufffd\\u00e9\"");
  EXPECT_LT(message(printable(std::string(100000, 'x'))).size(), 120u);
}

TEST(json, refuses_what_is_too_large) { EXPECT_NE(error_of("[1, 2, 3]", {.max_bytes = 8}), ""); }

TEST(json, refuses_what_is_not_a_regular_file) {
  EXPECT_THROW(read_json("/dev/zero"), FileError);
  EXPECT_THROW(read_json("/"), FileError);
  EXPECT_THROW(read_json("/no/such/file"), FileError);
}

}  // namespace
}  // namespace tessera

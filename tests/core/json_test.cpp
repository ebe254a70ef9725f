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

TEST(json, accepts_what_is_valid_in_the_order_of_the_file) {
  JsonDocument parsed = parse_json(R"({"b": [1, 2.5, null, "\u00e9\ud83d\ude00", true], "a": {"b": 1}})", "test.json");
  const JsonValue json = parsed.root();
  const JsonDocument document = std::move(parsed);
  EXPECT_EQ(json_as<int64_t>(json["b"].at(0)), 1);
  EXPECT_EQ(json_as<double>(json["b"].at(1)), 2.5);
  EXPECT_TRUE(json["b"].at(2).is_null());
  EXPECT_EQ(json_as<std::string_view>(json["b"].at(3)), "\u00e9\U0001f600");
  EXPECT_EQ(json_as<bool>(json["b"].at(4)), true);
  EXPECT_EQ(json_as<int64_t>(json["a"]["b"]), 1);
  std::string keys;
  const JsonObject object = *json_as<JsonObject>(document.root());
  for (const auto field : object) keys += field.key;
  EXPECT_EQ(keys, "ba");
}

TEST(json, keeps_integers_apart_from_floats) {
  const auto document = parse_json(
      R"([-9223372036854775808, 9223372036854775807, 9223372036854775808, 18446744073709551615, 18446744073709551616, -9223372036854775809,
          1000000000000000019884624838656, -0, 4.0, "a \" 18446744073709551616, -0", "\\", -0.5e0])",
      "test.json");
  const JsonArray numbers = *json_as<JsonArray>(document.root());
  const auto integer = [&](size_t at) { return json_as<int64_t>(numbers.at(at)); };
  const auto number = [&](size_t at) { return json_as<double>(numbers.at(at)); };
  EXPECT_EQ(integer(0), INT64_MIN);
  EXPECT_EQ(integer(1), INT64_MAX);
  EXPECT_EQ(integer(2), std::nullopt);
  EXPECT_EQ(json_as<uint64_t>(numbers.at(2)), uint64_t{1} << 63);
  EXPECT_EQ(json_as<uint64_t>(numbers.at(3)), UINT64_MAX);
  for (const size_t at : {4, 5, 6, 7, 8, 11}) EXPECT_EQ(integer(at), std::nullopt) << at;
  for (const size_t at : {4, 5, 6, 7, 8, 11}) EXPECT_EQ(json_as<uint64_t>(numbers.at(at)), std::nullopt) << at;
  EXPECT_EQ(number(4), 18446744073709551616.0);
  EXPECT_EQ(number(5), -9223372036854775808.0);
  EXPECT_EQ(number(6), 1e30);
  EXPECT_EQ(number(7), 0.0);
  EXPECT_EQ(number(8), 4.0);
  EXPECT_EQ(json_as<std::string_view>(numbers.at(9)), "a \" 18446744073709551616, -0");
  EXPECT_EQ(json_as<std::string_view>(numbers.at(10)), "\\");
  EXPECT_EQ(number(11), -0.5);
  for (const char* text : {"1e999", "-1e999", "01", "-", "1.", ".5", "+1", "0x1", "018446744073709551616", "18446744073709551616x"})
    EXPECT_NE(error_of(text).find("not valid JSON"), std::string::npos) << text;
}

TEST(json, refuses_duplicate_keys_naming_the_key_and_its_place) {
  EXPECT_EQ(error_of(R"({"a": 1, "a": 2})"), "test.json: JSON key \"a\" stands twice");
  EXPECT_EQ(error_of(R"({"a": 1, "\u0061": 2})"), "test.json: JSON key \"a\" stands twice");
  EXPECT_EQ(error_of(R"({"x": [0, {"y\n": {"": 1, "a": {}, "": 2}}]})"), "test.json: \"x\"[1].\"y\\n\": JSON key \"\" stands twice");
  EXPECT_EQ(error_of(R"([{"a": {"a": 1}}, {"a": 2}])"), "");
  std::string keys;
  for (int key = 0; key < 100'000; ++key) keys += message('"', key, "\": 0, ");
  EXPECT_EQ(error_of("{" + keys + R"("100000": 0})"), "");
  EXPECT_EQ(error_of("{" + keys + R"("31415": 0})"), "test.json: JSON key \"31415\" stands twice");
}

TEST(json, refuses_deep_nesting_quickly) {
  EXPECT_NE(error_of(std::string(100000, '[') + std::string(100000, ']')).find("nested more than 64 levels"), std::string::npos);
  EXPECT_EQ(error_of("[[[1]]]", {.max_depth = 4}), "");
  EXPECT_NE(error_of("[[[[[1]]]]]", {.max_depth = 4}), "");
}

TEST(json, refuses_what_is_no_unicode_and_what_is_cut) {
  for (const char* text : {"{\"a\": \"\xff\"}", "\"\xed\xa0\x80\"", R"("\ud800")", R"("\udc00")", R"("\ud800\u0041")", R"({"\ud800": 1})",
                           R"("\ud800\ud800")", "{\"a\": 1", "{\"a\": \"1", "", "{\"a\": NaN}"})
    EXPECT_NE(error_of(text).find("test.json: not valid JSON: "), std::string::npos) << text;
}

TEST(json, refuses_a_nul_and_a_byte_order_mark) {
  using namespace std::string_view_literals;
  EXPECT_NE(error_of("{\"a\": 1}\0junk"sv), "");
  EXPECT_NE(error_of("{\"a\": 1}\0"sv), "");
  EXPECT_NE(error_of("\"\0\""sv), "");
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

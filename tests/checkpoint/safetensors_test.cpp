#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "allocations.h"
#include "support.h"

namespace tessera {
namespace {

using namespace std::string_literals;
using testing::header_length;
using testing::holds;
using testing::safetensors;

std::vector<SafetensorsTensor> parse(const std::string& file) { return parse_safetensors(std::as_bytes(std::span(file)), "x.safetensors"); }

const std::string kInfo = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
const std::string kValid = R"({"a":)" + kInfo + "}";

// One tensor "a" with this info, and so many bytes of data.
std::string one(const std::string& info, size_t data_bytes) { return safetensors(R"({"a":)" + info + "}", data_bytes); }
std::string shaped(const std::string& dtype, const std::string& shape, size_t data_bytes) {
  return one(message(R"({"dtype":)", dtype, R"(,"shape":)", shape, R"(,"data_offsets":[0,)", data_bytes, "]}"), data_bytes);
}
// Two tensors of 2 float32 with these offsets.
std::string two(const std::string& first, const std::string& second, size_t data_bytes) {
  return safetensors(message(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)", first,
                             R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)", second, "}}"),
                     data_bytes);
}

struct Case {
  std::string name;
  std::string file;
  std::string error;  // a part of it; "": the file is accepted
};

std::vector<Case> cases() {
  const std::string valid = safetensors(kValid, 8);
  const std::string kMetadata = R"("__metadata__":{"format":"pt"},)";
  return {
      {"valid", valid, ""},
      {"empty_file", "", "has 0 bytes: too short"},
      {"seven_bytes", valid.substr(0, 7), "has 7 bytes: too short"},
      {"header_of_zero_bytes", header_length(0) + "12345678", "does not begin with '{'"},
      {"header_of_two_bytes", safetensors("{}", 0), ""},
      {"header_length_2_63", header_length(uint64_t{1} << 63) + kValid, "9223372036854775808 is above 100000000"},
      {"header_length_2_64_less_1", header_length(~uint64_t{0}) + kValid, "18446744073709551615 is above 100000000"},
      {"header_length_over_the_limit", header_length(100'000'001) + kValid, "100000001 is above 100000000"},
      {"header_length_at_the_limit", header_length(100'000'000) + kValid, "100000000 reaches past the file's"},
      {"header_length_one_past_the_end", header_length(kValid.size() + 1) + kValid, "reaches past the file's"},
      {"header_cut_by_one_byte", safetensors(kValid.substr(0, kValid.size() - 1), 8), "header: not valid JSON: "},
      {"data_one_byte_short", safetensors(kValid, 7), "tensor \"a\": data_offsets end at 8 but the file has only 7 bytes"},
      {"one_byte_more", safetensors(kValid, 9), "has 1 bytes after the last tensor, at byte " + std::to_string(8 + kValid.size() + 8)},
      {"two_tensors", two("[0,8]", "[8,16]", 16), ""},
      {"two_tensors_in_the_other_order", two("[8,16]", "[0,8]", 16), ""},
      {"hole", two("[0,8]", "[9,17]", 17), "tensor \"b\": data_offsets begin at 9, leaving a hole after 8"},
      {"first_offset_not_zero", one(R"({"dtype":"F32","shape":[2],"data_offsets":[1,9]})", 9), "begin at 1, leaving a hole after 0"},
      {"overlap", two("[0,8]", "[7,15]", 15), "tensor \"b\": data_offsets begin at 7, inside another tensor"},
      {"same_range", two("[0,8]", "[0,8]", 8), "tensor \"b\": data_offsets begin at 0, inside another tensor"},
      {"end_before_begin", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", 8),
       "tensor \"a\": data_offsets [8, 0] end before they begin"},
      {"size_is_not_shape_times_dtype", one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", 8),
       "shape [3] of F32 needs 12 bytes but data_offsets [0, 8] hold 8"},
      {"shape_product_overflows", shaped("\"U8\"", "[8589934592,8589934592]", 0), "shape [8589934592, 8589934592] has too many elements"},
      {"shape_product_fits", shaped("\"U8\"", "[8589934592,0]", 0), ""},
      {"byte_count_overflows", shaped("\"F64\"", "[2305843009213693952]", 0), "has too many elements"},
      {"dimension_2_64", shaped("\"U8\"", "[18446744073709551616]", 0), "tensor \"a\": shape holds 1.8446744073709552e+19"},
      {"dimension_2_63", shaped("\"U8\"", "[9223372036854775808,0]", 0), "shape holds 9223372036854775808: a dimension must be below 2^63"},
      {"dimension_negative", shaped("\"U8\"", "[-4]", 4), "shape holds -4"},
      {"dimension_minus_zero", shaped("\"U8\"", "[-0]", 0), "shape holds"},
      {"dimension_float", shaped("\"U8\"", "[4.0]", 4), "shape holds 4.0"},
      {"dimension_text", shaped("\"U8\"", "[\"4\"]", 4), "shape holds text"},
      {"dimension_null", shaped("\"U8\"", "[null]", 4), "shape holds null"},
      {"dimension_true", shaped("\"U8\"", "[true]", 1), "shape holds a boolean"},
      {"dimension_array", shaped("\"U8\"", "[[4]]", 4), "shape holds an array"},
      {"shape_text", shaped("\"U8\"", "\"4\"", 4), "shape is text"},
      {"shape_null", shaped("\"U8\"", "null", 4), "shape is null"},
      {"shape_object", shaped("\"U8\"", "{}", 4), "shape is an object"},
      {"dtype_unknown", shaped("\"F33\"", "[1]", 4), "tensor \"a\": unknown dtype \"F33\""},
      {"dtype_lower_case", shaped("\"f32\"", "[1]", 4), "unknown dtype \"f32\""},
      {"dtype_number", shaped("32", "[1]", 4), "dtype is 32"},
      {"dtype_object", shaped("{\"F32\":null}", "[1]", 4), "dtype is an object"},
      {"half_byte_odd_count", one(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})", 2), "shape [3] of F4 does not fill whole bytes"},
      {"half_byte_even_count", one(R"({"dtype":"F4","shape":[4],"data_offsets":[0,2]})", 2), ""},
      {"name_twice", safetensors(R"({"a":)" + kInfo + R"(,"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),
       "header: JSON key \"a\" stands twice"},
      {"name_twice_in_two_spellings",
       safetensors(R"({"a":)" + kInfo + R"(,"\u0061":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),
       "header: JSON key \"a\" stands twice"},
      {"metadata", safetensors("{" + kMetadata + R"("a":)" + kInfo + "}", 8), ""},
      {"metadata_last", safetensors(R"({"a":)" + kInfo + R"(,"__metadata__":{}})", 8), ""},
      {"metadata_twice", safetensors("{" + kMetadata + kMetadata + R"("a":)" + kInfo + "}", 8),
       "header: JSON key \"__metadata__\" stands twice"},
      {"metadata_key_twice", safetensors(R"({"__metadata__":{"k":"1","k":"2"},"a":)" + kInfo + "}", 8),
       "\"__metadata__\": JSON key \"k\" stands twice"},
      {"metadata_value_number", safetensors(R"({"__metadata__":{"k":1},"a":)" + kInfo + "}", 8), "__metadata__ holds 1: only text"},
      {"metadata_value_object", safetensors(R"({"__metadata__":{"k":{}},"a":)" + kInfo + "}", 8),
       "__metadata__ holds an object: only text"},
      {"metadata_null", safetensors(R"({"__metadata__":null,"a":)" + kInfo + "}", 8), "\"__metadata__\" is null, not an object"},
      {"dtype_missing", one(R"({"shape":[2],"data_offsets":[0,8]})", 8), "tensor \"a\": dtype is missing"},
      {"shape_missing", one(R"({"dtype":"F32","data_offsets":[0,8]})", 8), "tensor \"a\": shape is missing"},
      {"data_offsets_missing", one(R"({"dtype":"F32","shape":[2]})", 8), "tensor \"a\": data_offsets is missing"},
      {"field_twice", one(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})", 8), "\"a\": JSON key \"shape\" stands twice"},
      {"one_offset", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})", 8), "data_offsets holds 1 values, not begin and end"},
      {"three_offsets", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})", 8), "data_offsets holds 3 values, not begin and end"},
      {"offset_negative", one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})", 8), "data_offsets holds -8"},
      {"tensor_is_a_list", safetensors(R"({"a":["F32",[2],[0,8]]})", 8), "\"a\" is an array, not an object"},
      {"tensor_is_null", safetensors(R"({"a":null})", 0), "\"a\" is null, not an object"},
      {"unknown_field", one(R"({"dtype":"F32","shape":[2],"x":[1,{"y":[null,"z",-1.5,true]}],"data_offsets":[0,8]})", 8), ""},
      {"leading_space", safetensors(" " + kValid, 8), "does not begin with '{'"},
      {"byte_order_mark", safetensors("\xEF\xBB\xBF" + kValid, 8), "does not begin with '{'"},
      {"trailing_spaces", safetensors(kValid + "   ", 8), ""},
      {"trailing_nul", safetensors(kValid + "\0"s, 8), "header: not valid JSON: "},
      {"trailing_junk", safetensors(kValid + "x", 8), "header: not valid JSON: "},
      {"name_not_utf8", safetensors("{\"a\xff\":" + kInfo + "}", 8), "header: not valid JSON: "},
      {"name_lone_surrogate", safetensors(R"({"a\ud800":)" + kInfo + "}", 8), "not valid JSON"},
      {"name_with_surrogate_pair", safetensors(R"({"a\ud83d\ude00":)" + kInfo + "}", 8), ""},
      {"name_empty", safetensors(R"({"":)" + kInfo + "}", 8), ""},
      {"name_like_a_path", safetensors(R"({"../../etc/x":)" + kInfo + "}", 8), ""},
      {"name_with_nul", safetensors(R"({"a\u0000b":)" + kInfo + "}", 8), ""},
      {"array_header", safetensors("[]", 0), "does not begin with '{'"},
      {"deep_header", safetensors(std::string(100'000, '['), 0), "does not begin with '{'"},
      {"deep_unknown_field", one(R"({"x":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}", 0),
       "nested more than 64 levels"},
      {"eight_dimensions", shaped("\"U8\"", "[1,1,1,1,1,1,1,1]", 1), ""},
      {"nine_dimensions", shaped("\"U8\"", "[1,1,1,1,1,1,1,1,1]", 1), "shape has more than 8 dimensions"},
      {"scalar", shaped("\"F32\"", "[]", 4), ""},
      {"zero_size_tensor", safetensors(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"b":)" + kInfo + "}", 8), ""},
      {"no_tensors", safetensors("{}", 0), ""},
  };
}

TEST(safetensors, accepts_and_refuses_what_its_specification_says_and_names_the_place) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const testing::AllocationWatch watch;
    const std::string error = testing::error_of([&] { parse(c.file); });
    if (c.error.empty()) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_TRUE(holds(error, "x.safetensors: "));
      EXPECT_TRUE(holds(error, c.error));
      EXPECT_LT(error.size(), 400u);
    }
    EXPECT_LT(watch.largest(), 4096 + 9 * c.file.size());
  }
}

TEST(safetensors, a_hundred_thousand_dimensions_are_refused_at_the_ninth) {
  std::string shape = "[1";
  for (int i = 1; i < 100'000; ++i) shape += ",1";
  const std::string file = shaped("\"U8\"", shape + "]", 1);
  const testing::AllocationWatch watch;
  EXPECT_TRUE(holds(testing::error_of([&] { parse(file); }), "more than 8 dimensions"));
  EXPECT_LT(watch.largest(), 9 * file.size());
}

TEST(safetensors, gives_each_tensor_its_bytes_in_the_file) {
  const std::string file =
      safetensors(R"({"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]},"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}})", 12);
  const std::vector<SafetensorsTensor> tensors = parse(file);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, "I32");
  EXPECT_TRUE(tensors[0].shape.empty());
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].dtype, "BF16");
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(tensors[1].end, file.size());
  EXPECT_EQ(file[tensors[1].begin], 4);
}

TEST(safetensors, a_header_of_two_hundred_thousand_tensors_takes_memory_in_proportion) {
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i) header += message(i == 0 ? "" : ",", "\"", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  const std::string file = safetensors(header + "}", 0);
  const testing::AllocationWatch watch;
  EXPECT_EQ(parse(file).size(), 200'000u);
  EXPECT_LT(watch.largest(), 9 * file.size());
}

}  // namespace
}  // namespace tessera

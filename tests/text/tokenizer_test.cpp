#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>

#include "small_tokenizer.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr EncodeOptions kParse{.parse_special = true};

TEST(tokenizer, merges_the_lowest_rank_first_and_of_equal_ranks_the_leftmost) {
  Json json = small_tokenizer();
  json["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"c", 2}, {"bc", 3}, {"ab", 4}, {"aa", 5}};
  json["model"]["merges"] = {"b c", "a b", "a a"};
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("abc", {}), ElementsAre(0, 3));
  EXPECT_THAT(tokenizer.encode("aaa", {}), ElementsAre(5, 0));
  EXPECT_THAT(tokenizer.encode("aaab", {}), ElementsAre(5, 4));
  EXPECT_THAT(tokenizer.encode("", {}), IsEmpty());
}

TEST(tokenizer, reads_merges_as_texts_and_as_pairs) {
  Json json = small_tokenizer();
  EXPECT_THAT(parse(json).encode("ab", {}), ElementsAre(2));
  json["model"]["merges"] = {"a b"};
  EXPECT_THAT(parse(json).encode("ab", {}), ElementsAre(2));
}

TEST(tokenizer, makes_bytes_of_a_character_that_is_no_token) {
  Json json = small_tokenizer();
  json["model"]["byte_fallback"] = true;
  add_byte_tokens(json, 4);
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("a\xE2\x82\xAC", {}), ElementsAre(0, 4 + 0xE2, 4 + 0x82, 4 + 0xAC));
  EXPECT_THAT(tokenizer.encode("\n", {}), ElementsAre(4 + 10));
}

TEST(tokenizer, gives_the_unknown_token_and_fuses_it_when_told_so) {
  Json json = small_tokenizer();
  EXPECT_THAT(parse(json).encode("axyb", {}), ElementsAre(2)) << "without an unknown token a character is left out";
  json["model"]["unk_token"] = "<unk>";
  EXPECT_THAT(parse(json).encode("axyb", {}), ElementsAre(0, 3, 3, 1));
  json["model"]["fuse_unk"] = true;
  EXPECT_THAT(parse(json).encode("axyb", {}), ElementsAre(0, 3, 1));
}

TEST(tokenizer, finds_added_tokens_before_the_model_sees_the_text) {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token(4, "<x>"), added_token(5, "<x>b", true)};
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("a<x>ab<x>b<x", kParse), ElementsAre(0, 4, 2, 5)) << "the longest wins; < and x are no tokens here";
  EXPECT_EQ(tokenizer.vocab_size(), 6);
  EXPECT_EQ(tokenizer.token_to_id("<x>b"), 5);
  EXPECT_EQ(tokenizer.id_to_token(5), "<x>b");
  EXPECT_TRUE(tokenizer.is_special(5));
  EXPECT_FALSE(tokenizer.is_special(4));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(6));
}

TEST(tokenizer, keeps_gaps_between_ids) {
  Json json = small_tokenizer();
  json["model"]["vocab"]["z"] = 9;
  const Tokenizer tokenizer = parse(json);
  EXPECT_EQ(tokenizer.vocab_size(), 10);
  EXPECT_FALSE(tokenizer.has_token(7));
  EXPECT_EQ(tokenizer.id_to_token(7), "");
  EXPECT_EQ(tokenizer.decode(std::vector<TokenId>{0, 7, 9, 10, 1000000}, {}), "a z") << "ids without a token are left out";
}

TEST(tokenizer, puts_the_template_around_a_text_only_when_told_so) {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token(4, "<bos>", true)};
  json["post_processor"] = Json::parse(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}},
      {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "two", "type_id": 0}}], "pair": [],
      "special_tokens": {"<bos>": {"id": "<bos>", "ids": [4], "tokens": ["<bos>"]}, "two": {"id": "two", "ids": [1, 0], "tokens": ["b", "a"]}}})");
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("ab", {.add_special_tokens = true}), ElementsAre(4, 2, 1, 0));
  EXPECT_THAT(tokenizer.encode("", {.add_special_tokens = true}), ElementsAre(4, 1, 0));
  EXPECT_THAT(tokenizer.encode("ab", {}), ElementsAre(2));
}

TEST(tokenizer, encodes_control_tokens_as_text_unless_told_to_parse_them) {
  Json json = small_tokenizer();
  json["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"<", 3}, {">", 4}, {"<ab", 5}, {"<ab>", 6}, {"aa", 7}};
  json["model"]["merges"] = {"a b", "< ab", "<ab >"};
  json["added_tokens"] = {added_token(6, "<ab>", true), added_token(7, "aa")};
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("a<ab>", kParse), ElementsAre(0, 6));
  EXPECT_THAT(tokenizer.encode("a<ab>", {}), ElementsAre(0, 5, 4)) << "the last merge would make the control token";
  EXPECT_THAT(tokenizer.encode("aa", {}), ElementsAre(7)) << "a token that isn't special is found all the same";
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(parse(json).encode("<ab>", {}), ElementsAre(5, 4)) << "nor is the whole word taken for the control token";
}

class Spans : public ::testing::Test {
 protected:
  Spans() : tokenizer_(parse(document())) {}

  static Json document() {
    Json json = small_tokenizer();
    json["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"<", 3}, {">", 4}, {"s", 5}, {"\n", 6}, {"\n\n", 7}};
    json["added_tokens"] = {added_token(7, "\n\n"), added_token(8, "<<"), added_token(9, "<s>", true)};
    return json;
  }
  std::vector<TokenId> encode(const std::vector<TextSpan>& spans) const { return tokenizer_.encode(spans, false); }

  Tokenizer tokenizer_;
};

TEST_F(Spans, are_one_text) {
  EXPECT_THAT(encode({{"<s>a", true}, {"b", false}}), ElementsAre(9, 2)) << "merges reach across";
  EXPECT_THAT(encode({{"a\n", true}, {"\nb", false}}), ElementsAre(0, 7, 1)) << "and so do tokens that aren't special";
}

TEST_F(Spans, parse_special_tokens_only_where_told_so) {
  EXPECT_THAT(encode({{"<s>", true}, {"<s>", false}, {"<s>", true}}), ElementsAre(9, 3, 5, 4, 9));
  EXPECT_THAT(encode({{"a<s", true}, {">", false}}), ElementsAre(0, 3, 5, 4)) << "half of it is a person's";
  EXPECT_THAT(encode({{"<s", true}, {">", true}}), ElementsAre(9)) << "neighbouring spans of a template are one";
  EXPECT_THAT(encode({{"<s", true}, {"", false}, {">", true}}), ElementsAre(9));
}

TEST_F(Spans, cannot_hide_a_special_token_behind_another_token) {
  EXPECT_THAT(encode({{"<", false}, {"<s>", true}}), ElementsAre(3, 9)) << "<< would begin earlier";
  EXPECT_THAT(encode({{"<<s>", true}}), ElementsAre(8, 5, 4)) << "in one template it does, as in the `tokenizers` library";
}

TEST(tokenizer, names_the_byte_at_which_a_text_is_no_utf8) {
  const Tokenizer tokenizer = parse(small_tokenizer());
  const auto message_of = [&](std::string_view text) -> std::string {
    try {
      tokenizer.encode(text, {});
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message_of("ab\xFFz"), HasSubstr("at byte 2;"));
  EXPECT_THAT(message_of("\xE2\x82"), HasSubstr("at byte 0;"));
  EXPECT_THAT(message_of("a\xED\xA0\x80"), HasSubstr("at byte 1;"));
  EXPECT_EQ(message_of("a\xED\x9F\xBF"), "");
}

TEST(tokenizer, refuses_a_negative_id) {
  EXPECT_THROW(parse(small_tokenizer()).decode(std::vector<TokenId>{-1}, {}), std::invalid_argument);
}

TEST(tokenizer, encodes_a_word_of_a_million_characters) {
  Json json = small_tokenizer();
  json["model"]["vocab"] = {{"a", 0}, {"aa", 1}, {"aaaa", 2}};
  json["model"]["merges"] = {"a a", "aa aa"};
  const std::vector<TokenId> ids = parse(json).encode(std::string(1'000'003, 'a'), {});
  ASSERT_EQ(ids.size(), 250'002u);
  EXPECT_EQ(ids[249'999], 2);
  EXPECT_EQ(ids[250'000], 1);
  EXPECT_EQ(ids[250'001], 0);
}

TEST(tokenizer, encodes_a_million_white_space_tokens_that_swallow_white_space) {
  Json json = small_tokenizer();
  json["added_tokens"] = {added_token(4, " ")};
  json["added_tokens"][0]["rstrip"] = true;
  EXPECT_EQ(parse(json).encode(std::string(1'000'000, ' ') + "a", {}).size(), 1'000'001u) << "overlapping, as in the `tokenizers` library";
}

TEST(tokenizer, may_be_shared_by_threads) {
  Json json = small_tokenizer();
  json["pre_tokenizer"] = Json::parse(R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})");
  const Tokenizer tokenizer = parse(json);
  std::vector<std::thread> threads;
  std::vector<std::vector<TokenId>> results(4);
  for (auto& result : results)
    threads.emplace_back([&tokenizer, &result] {
      for (int i = 0; i < 100; ++i) result = tokenizer.encode("ab a b ab", {});
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

TEST(tokenizer, loads_a_file_and_names_it_when_it_is_absent) {
  EXPECT_THROW(Tokenizer::load("/no/such/tokenizer.json"), FileError);
  EXPECT_THROW(Tokenizer::load("/dev/zero"), FileError);
}

}  // namespace
}  // namespace tessera

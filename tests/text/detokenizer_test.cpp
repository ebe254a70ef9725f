#include "text/detokenizer.h"

#include <gmock/gmock.h>

#include <random>

#include "small_tokenizer.h"
#include "text/utf8.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

// What each push and then flush give.
std::vector<std::string> stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, const DecodeOptions& options = {}) {
  Detokenizer detokenizer(tokenizer, options);
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.push_back(detokenizer.push(id));
  pieces.push_back(detokenizer.flush());
  return pieces;
}

// Tokens a, b, ab, <unk>, then bytes from 4 on, then U+2581 (260), U+2581 a (261) and the special <s> (262); decoded as Llama 2 does.
Tokenizer llama_2() {
  Json json = small_tokenizer();
  add_byte_tokens(json, 4);
  json["model"]["byte_fallback"] = true;
  json["model"]["vocab"]["\u2581"] = 260;
  json["model"]["vocab"]
      ["\u2581"
       "a"] = 261;
  json["added_tokens"] = {added_token(262, "<s>", true)};
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  return parse(json);
}

// All 256 letters of the byte-level alphabet: the id of a letter is its place in the bytes' order.
Tokenizer byte_level() {
  Json json = small_tokenizer();
  json["model"]["vocab"] = Json::object();
  json["model"]["merges"] = Json::array();
  char32_t other = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool is_itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    json["model"]["vocab"][text::to_utf8(is_itself ? byte : other++)] = byte;
  }
  json["decoder"] = Json::parse(R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})");
  return parse(json);
}

TEST(detokenizer, waits_for_the_end_of_a_run_of_byte_tokens) {
  EXPECT_THAT(stream(llama_2(), {0, 4 + 0xE2, 4 + 0x82, 4 + 0xAC, 1}), ElementsAre("a", "", "", "", "\u20ACb", ""));
  EXPECT_THAT(stream(llama_2(), {0, 4 + 0xE2, 4 + 0x82, 4 + 0xAC}), ElementsAre("a", "", "", "", "\u20AC"));
}

TEST(detokenizer, replaces_every_byte_of_a_run_that_is_not_utf8) {
  EXPECT_THAT(stream(llama_2(), {4 + 'a', 4 + 0xE2, 4 + 0x82, 1}), ElementsAre("", "", "",
                                                                               "\uFFFD\uFFFD\uFFFD"
                                                                               "b",
                                                                               ""));
  EXPECT_THAT(stream(llama_2(), {4 + 0xE2}), ElementsAre("", "\uFFFD"));
}

TEST(detokenizer, drops_one_space_at_the_beginning_of_the_text_only) {
  EXPECT_THAT(stream(llama_2(), {261, 261}), ElementsAre("a", " a", ""));
  EXPECT_THAT(stream(llama_2(), {260, 261}), ElementsAre("", " a", ""));
  EXPECT_THAT(stream(llama_2(), {262, 261}), ElementsAre("<s>", " a", ""));
  EXPECT_THAT(stream(llama_2(), {262, 261}, {.skip_special = true}), ElementsAre("", "a", ""));
}

TEST(detokenizer, begins_anew_after_flush) {
  const Tokenizer tokenizer = llama_2();
  Detokenizer detokenizer(tokenizer, {});
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(detokenizer.push(261), "a");
    EXPECT_EQ(detokenizer.push(4 + 0xE2), "");
    EXPECT_EQ(detokenizer.flush(), "\uFFFD");
  }
}

TEST(detokenizer, gives_byte_level_characters_when_their_last_byte_comes) {
  const Tokenizer tokenizer = byte_level();
  EXPECT_THAT(stream(tokenizer, {0xF0, 0x9F, 0x99, 0x82, 'x'}), ElementsAre("", "", "", "\U0001F642", "x", ""));
  EXPECT_THAT(stream(tokenizer, {0xF0, 0x9F, 'x'}), ElementsAre("", "", "\uFFFDx", ""));
  EXPECT_THAT(stream(tokenizer, {0xF0, 0x9F}), ElementsAre("", "", "\uFFFD"));
  EXPECT_THAT(stream(tokenizer, {0xFF, 0xC3, 0xA9}), ElementsAre("\uFFFD", "", "\u00E9", ""));
  EXPECT_THAT(stream(tokenizer, {0xE2, 0x82, 0xE2, 0x82, 0xAC}), ElementsAre("", "", "\uFFFD", "", "\u20AC", ""));
}

TEST(detokenizer, never_gives_half_a_character_and_all_of_it_is_what_decode_gives) {
  std::mt19937 random(1);
  for (const Tokenizer& tokenizer : {llama_2(), byte_level()}) {
    for (int round = 0; round < 2000; ++round) {
      std::vector<TokenId> ids(random() % 12);
      for (TokenId& id : ids) id = static_cast<TokenId>(random() % 3 ? random() % tokenizer.vocab_size() : 0xC3 + random() % 2 * 4);
      std::string joined;
      for (const std::string& piece : stream(tokenizer, ids)) {
        EXPECT_EQ(text::find_invalid_utf8(piece), std::string::npos);
        joined += piece;
      }
      EXPECT_EQ(joined, tokenizer.decode(ids, {}));
    }
  }
}

TEST(detokenizer, puts_spaces_between_tokens_without_a_decoder) {
  EXPECT_THAT(stream(parse(small_tokenizer()), {0, 2, 1}), ElementsAre("a", " ab", " b", ""));
}

TEST(detokenizer, holds_what_a_strip_at_the_end_may_take_away) {
  Json json = small_tokenizer();
  json["decoder"] =
      Json::parse(R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 0, "stop": 1}]})");
  EXPECT_THAT(stream(parse(json), {1, 0, 0, 1, 0}), ElementsAre("b", "", "a", "ab", "", ""));
}

}  // namespace
}  // namespace tessera

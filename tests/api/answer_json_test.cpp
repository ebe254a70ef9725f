#include <gmock/gmock.h>

#include <new>

#include "api/completions.h"
#include "api/tokenize.h"
#include "core/error.h"
#include "text/small_tokenizer.h"

using testing::ElementsAre;

namespace tessera::api {
namespace {

// a, b, ab, <unk>, the bytes from 4 on, and a special token.
Tokenizer make_tokenizer() {
  nlohmann::json json = small_tokenizer();
  json["model"]["byte_fallback"] = true;
  add_byte_tokens(json, 4);
  json["added_tokens"].push_back(added_token(260, "<end>", true));
  json["decoder"] = {{"type", "ByteFallback"}};
  return parse(json);
}

std::string message_of(const Failure& failure) { return failure.body["error"]["message"]; }

}  // namespace

TEST(answer_json, a_token_is_told_with_its_rank_and_nothing_below_what_json_holds) {
  const Tokenizer tokenizer = make_tokenizer();
  const TokenLogprobs found{.token = 1, .logprob = -HUGE_VAL, .rank = 4, .top = {{0, -0.5}, {2, -1.0}, {4 + 0xC3, -1.0}, {1, -2.0}}};
  const TokenChoice choice = token_choice(found, tokenizer);
  EXPECT_EQ(choice.chosen.text, "b");
  EXPECT_EQ(choice.chosen.logprob, -9999);
  EXPECT_EQ(choice.chosen.rank, 4);
  std::vector<int64_t> ranks;
  std::string texts;
  for (const TokenText& top : choice.top) ranks.push_back(top.rank), texts += top.text + ' ';
  EXPECT_THAT(ranks, ElementsAre(1, 2, 2, 4));  // of equal ones none is more probable than the other
  EXPECT_EQ(texts, "a ab \uFFFD b ");
}

TEST(answer_json, a_prompts_first_token_has_no_probability) {
  const Tokenizer tokenizer = make_tokenizer();
  const TokenId prompt[] = {0, 1};
  const TokenLogprobs second{.token = 1, .logprob = -1.5, .rank = 1, .top = {}};
  const Json json = prompt_logprobs_json(prompt_choices(prompt, {&second, 1}, tokenizer));
  EXPECT_EQ(json, Json::parse(R"([null, {"1": {"logprob": -1.5, "rank": 1, "decoded_token": "b"}}])"));
}

TEST(answer_json, a_text_is_one_line_of_utf8) {
  EXPECT_EQ(json_text("a\n\r\u0085\u2028\u2029\u00E9\u2030"), "\"a\\n\\r\\u0085\\u2028\\u2029\u00E9\u2030\"");
  EXPECT_EQ(json_text(Json("\xC3"
                           "a\xE2\x80")),
            "\"\uFFFDa\uFFFD\"");
  EXPECT_EQ(event(Json{{"a", 1}}), "data: {\"a\":1}\n\n");
  EXPECT_EQ(event(Json{{"a", 1}}, "ping"), "event: ping\ndata: {\"a\":1}\n\n");
}

TEST(answer_json, a_failure_has_its_status_and_tells_no_folders) {
  const auto status = [](const std::exception& error) { return failure(error).status; };
  EXPECT_EQ(status(std::invalid_argument("top_p: 2 is outside (0, 1]")), 400);
  EXPECT_EQ(status(FileError("x")), 400);
  EXPECT_EQ(status(ResourceError("x")), 503);
  EXPECT_EQ(status(std::bad_alloc()), 503);
  EXPECT_EQ(status(std::runtime_error("x")), 500);
  EXPECT_EQ(failure(std::invalid_argument("top_p: 2 is outside (0, 1]")).body["error"]["param"], "top_p");
  EXPECT_EQ(failure(FieldError("", "the body: is no JSON")).body["error"]["param"], nullptr);
  EXPECT_EQ(message_of(failure(FileError("/home/me/models/gemma: has no chat template"))), "gemma: has no chat template");
  EXPECT_EQ(message_of(failure(std::runtime_error("\"/a/b c/d\" and a/b, 1/2"))), "\"b c/d\" and a/b, 1/2");
  EXPECT_EQ(message_of(failure(FieldError("url", "url: must be /v1/completions"))), "url: must be /v1/completions");
  EXPECT_EQ(failure(401, "a key is wanted", "invalid_api_key").body,
            Json::parse(
                R"({"error": {"message": "a key is wanted", "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}})"));
  EXPECT_EQ(failure(429, "x").body["error"]["type"], "rate_limit_error");
  EXPECT_EQ(failure(503, "x").body["error"]["type"], "server_error");
}

TEST(answer_json, tokens_are_told_as_vllm_does) {
  const Tokenizer tokenizer = make_tokenizer();
  const TokenId ids[] = {2, 260, 4};
  EXPECT_EQ(tokenized(ids, 512, tokenizer, true),
            Json::parse(R"({"count": 3, "max_model_len": 512, "tokens": [2, 260, 4], "token_strs": ["ab", "<end>", "<0x00>"]})"));
  EXPECT_EQ(tokenized({}, 512, tokenizer, false), Json::parse(R"({"count": 0, "max_model_len": 512, "tokens": [], "token_strs": null})"));
  EXPECT_EQ(detokenized({ids, 2}, tokenizer), Json::parse(R"({"prompt": "ab<end>"})"));
  EXPECT_EQ(detokenized({ids, 2}, tokenizer, true), Json::parse(R"({"prompt": "ab"})"));
  const std::pair<std::string, std::string> special[] = {{"eos_token", "<end>"}};
  const Json info = tokenizer_info(special, std::nullopt, "GemmaTokenizer");
  EXPECT_EQ(info["eos_token"], "<end>");
  EXPECT_EQ(info["bos_token"], nullptr);
  EXPECT_EQ(info["chat_template"], nullptr);
  EXPECT_EQ(info["tokenizer_class"], "GemmaTokenizer");
}

}  // namespace tessera::api

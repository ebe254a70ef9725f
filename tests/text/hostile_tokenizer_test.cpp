// Bad tokenizer.json files: each is refused with a message that names the field, beside its nearest good neighbour, which loads.
#include <gmock/gmock.h>

#include "checkpoint/allocations.h"
#include "small_tokenizer.h"
#include "text/chat_template.h"

namespace tessera {
namespace {

using ::testing::HasSubstr;

struct Field {
  const char* pointer;  // into small_tokenizer(); what stands there is replaced, or the last key is added
  const char* bad;
  const char* good;
  const char* message;
};

std::ostream& operator<<(std::ostream& out, const Field& field) { return out << field.pointer << " = " << field.bad; }

class Refused : public ::testing::TestWithParam<Field> {};

TEST_P(Refused, beside_its_good_neighbour) {
  const auto with = [](const char* value) {
    Json json = small_tokenizer();
    json[Json::json_pointer(GetParam().pointer)] = Json::parse(value);
    return json;
  };
  EXPECT_EQ(error_of(with(GetParam().good)), "") << GetParam().pointer << " = " << GetParam().good;
  const std::string error = error_of(with(GetParam().bad));
  EXPECT_THAT(error, HasSubstr("test.json: ")) << GetParam().pointer << " = " << GetParam().bad;
  EXPECT_THAT(error, HasSubstr(GetParam().message)) << GetParam().pointer << " = " << GetParam().bad;
}

INSTANTIATE_TEST_SUITE_P(ids, Refused,
                         ::testing::Values(Field{"/model/vocab/x", "-1", "4", "model.vocab: the token \"x\" must have an integer"},
                                           Field{"/model/vocab/x", "2147483648", "4194303",
                                                 "the token \"x\" must have an integer of 0 to 4194303"},
                                           Field{"/model/vocab/x", "18446744073709551616", "4", "the token \"x\" must have an integer"},
                                           Field{"/model/vocab/x", "4.0", "4", "the token \"x\" must have an integer"},
                                           Field{"/model/vocab/x", "\"4\"", "4", "the token \"x\" must have an integer"},
                                           Field{"/model/vocab/x", "null", "4", "the token \"x\""},
                                           Field{"/model/vocab/x", "2", "5", "has the id 2, as has \"ab\""},
                                           Field{"/model/vocab", "[]", R"({"a": 0, "b": 1, "ab": 2})", "model.vocab: must be an object"},
                                           Field{"/model/vocab", R"({"a": 0, "b": 1})", R"({"a": 0, "b": 1, "ab": 7})",
                                                 "model.merges[0]: \"ab\" is not in the vocabulary"}));

INSTANTIATE_TEST_SUITE_P(
    models, Refused,
    ::testing::Values(Field{"/model/type", "\"Unigram\"", "\"BPE\"", "model.type: the model \"Unigram\" is not supported"},
                      Field{"/model/dropout", "0.1", "0.0", "model.dropout"},
                      Field{"/model/continuing_subword_prefix", "\"##\"", "\"\"", "model.continuing_subword_prefix"},
                      Field{"/model/end_of_word_suffix", "\"</w>\"", "null", "model.end_of_word_suffix"},
                      Field{"/model/unk_token", "\"<x>\"", "\"<unk>\"", "model.unk_token: \"<x>\" is not in the vocabulary"},
                      Field{"/model/fuse_unk", "1", "true", "model.fuse_unk: must be true or false"},
                      Field{"/model/merges", R"([["a", "c"]])", R"([["a", "b"]])", "model.merges[0]: \"c\" is not in the vocabulary"},
                      Field{"/model/merges", R"(["a b", "ab"])", R"(["a b", "a b"])", "model.merges[1]: \"ab\" is not two tokens"},
                      Field{"/model/merges", R"(["a  b"])", R"(["a b"])", "model.merges[0]"},
                      Field{"/model/merges", R"([["a", "b"], "a b"])", R"([["a", "b"], ["a", "b"]])", "model.merges[1]"},
                      Field{"/model/merges", R"([["a"]])", "[]", "model.merges[0]: must be two texts"},
                      Field{"/model/merges", "{}", "[]", "model.merges: must be an array"},
                      Field{"/model/merges", "null", "[]", "model.merges: is missing"}));

INSTANTIATE_TEST_SUITE_P(
    parts, Refused,
    ::testing::Values(
        Field{"/normalizer", R"({"type": "Precompiled"})", R"({"type": "NFC"})",
              "normalizer.type: the normalizer \"Precompiled\" is not supported"},
        Field{"/normalizer", R"({"type": "Prepend"})", R"({"type": "Prepend", "prepend": "_"})", "normalizer.prepend: is missing"},
        Field{"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Nmt"}]})",
              R"({"type": "Sequence", "normalizers": [{"type": "NFC"}]})", "normalizer.normalizers[1].type"},
        Field{"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})",
              R"({"type": "Replace", "pattern": {"String": " "}, "content": ""})", "normalizer.pattern.String"},
        Field{"/normalizer", R"-({"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""})-",
              R"-({"type": "Replace", "pattern": {"Regex": "(a)"}, "content": ""})-", "normalizer.pattern.Regex"},
        Field{"/normalizer", R"({"type": "Replace", "pattern": {"Glob": "a"}, "content": ""})",
              R"({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""})", "\"Glob\" is not known"},
        Field{"/pre_tokenizer", R"({"type": "BertPreTokenizer"})", R"({"type": "WhitespaceSplit"})",
              "pre_tokenizer.type: the pre-tokenizer \"BertPreTokenizer\""},
        Field{"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "isolated", "invert": false})",
              R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": false})",
              "pre_tokenizer.behavior: \"isolated\" is not known"},
        Field{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Isolated", "invert": false})",
              R"({"type": "Split", "pattern": {"Regex": "\\p{L}+"}, "behavior": "Isolated", "invert": false})",
              "pre_tokenizer.pattern.Regex"},
        Field{"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})", R"({"type": "Metaspace", "replacement": "_"})",
              "pre_tokenizer.replacement"},
        Field{"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})",
              R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"})", "prepend_scheme: \"last\""},
        Field{"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})",
              R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false, "prepend_scheme": "never"})",
              "pre_tokenizer.add_prefix_space"},
        Field{"/pre_tokenizer", R"({"type": "ByteLevel", "add_prefix_space": false, "speed": 1})",
              R"({"type": "ByteLevel", "add_prefix_space": false})", "pre_tokenizer: the field \"speed\" is not known"},
        Field{"/post_processor", R"({"type": "RobertaProcessing"})", R"({"type": "ByteLevel"})",
              "post_processor.type: the post-processor \"RobertaProcessing\""},
        Field{"/post_processor",
              R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}], "pair": [], "special_tokens": {}})",
              R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "pair": [], "special_tokens": {}})",
              "post_processor.single"},
        Field{
            "/post_processor",
            R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}], "special_tokens": {"x": {"ids": [4]}}})",
            R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}], "special_tokens": {"x": {"ids": [3]}}})",
            "post_processor.special_tokens.x.ids: is 4; must be an integer of 0 to 3"},
        Field{
            "/post_processor",
            R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}], "special_tokens": {}})",
            R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "x"}}], "special_tokens": {"x": {"ids": []}}})",
            "post_processor.special_tokens.x: is missing"},
        Field{"/decoder", R"({"type": "WordPiece"})", R"({"type": "Fuse"})", "decoder.type: the decoder \"WordPiece\" is not supported"},
        Field{"/decoder", R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})",
              R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})", "decoder.decoders[1].type"},
        Field{"/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})",
              R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})", "decoder.start: is -1"},
        Field{"/decoder", "3", "null", "decoder: must be an object"}));

INSTANTIATE_TEST_SUITE_P(added_tokens, Refused,
                         ::testing::Values(Field{"/added_tokens", "null", "[]", "added_tokens: is missing"},
                                           Field{"/added_tokens", "{}", "[]", "added_tokens: must be an array"}));

TEST(hostile_tokenizer, has_an_added_token_with_an_id_that_the_library_would_not_give_it) {
  const auto with = [](const std::vector<Json>& tokens) {
    Json json = small_tokenizer();
    json["added_tokens"] = Json(tokens);
    return error_of(json);
  };
  EXPECT_EQ(with({added_token(4, "<x>"), added_token(0, "a"), added_token(5, "<y>")}), "");
  EXPECT_THAT(with({added_token(5, "<x>")}),
              HasSubstr("added_tokens[0].id: is 5, but \"<x>\" is not in the vocabulary and the next free id is 4"));
  EXPECT_THAT(with({added_token(3, "<x>")}), HasSubstr("the next free id is 4"));
  EXPECT_THAT(with({added_token(1, "a")}), HasSubstr("the vocabulary gives \"a\" the id 0"));
  EXPECT_THAT(with({added_token(-1, "<x>")}), HasSubstr("added_tokens[0].id: is -1"));
  EXPECT_THAT(with({added_token(4, "<x>"), added_token(5, "<x>")}), HasSubstr("added_tokens[1].content: \"<x>\" stands twice"));
  EXPECT_THAT(with({added_token(4, "")}), HasSubstr("added_tokens[0].content: must not be empty"));
  Json token = added_token(4, "<x>");
  token.erase("rstrip");
  EXPECT_THAT(with({token}), HasSubstr("added_tokens[0].rstrip: is missing"));
}

TEST(hostile_tokenizer, has_a_byte_token_that_is_no_byte) {
  const auto with = [](const char* token) {
    Json json = small_tokenizer();
    json["model"]["byte_fallback"] = true;
    json["model"]["vocab"][token] = 4;
    return error_of(json);
  };
  EXPECT_EQ(with("<0x1F>"), "");
  for (const char* token : {"<0x-1>", "<0xGG>", "<0x+1>", "<0x 1>", "<0x1g>"})
    EXPECT_THAT(with(token), HasSubstr("model.vocab: the byte token \"" + std::string(token)));
}

TEST(hostile_tokenizer, has_fields_that_are_not_known) {
  Json json = small_tokenizer();
  json["flavour"] = 1;
  EXPECT_THAT(error_of(json), HasSubstr("test.json: the field \"flavour\" is not known"));
  json = small_tokenizer();
  json["model"]["max_input_chars_per_word"] = 100;
  EXPECT_THAT(error_of(json), HasSubstr("test.json: model: the field \"max_input_chars_per_word\" is not known"));
}

TEST(hostile_tokenizer, repeats_a_key) {
  std::string text = small_tokenizer().dump();
  text.replace(text.find("\"a\":0"), 5, "\"a\":0,\"a\":7");
  EXPECT_THAT(error_of_text(text), HasSubstr("\"model\".\"vocab\": JSON key \"a\" stands twice"));
  EXPECT_THAT(error_of_text("{\"version\": 1, \"version\": 1}"), HasSubstr("test.json: JSON key \"version\" stands twice"));
}

TEST(hostile_tokenizer, is_no_json_or_cut_anywhere) {
  const std::string text = small_tokenizer().dump();
  EXPECT_EQ(error_of_text(text), "");
  for (size_t bytes = 0; bytes < text.size(); ++bytes) EXPECT_THAT(error_of_text(text.substr(0, bytes)), HasSubstr("test.json: ")) << bytes;
  EXPECT_THAT(error_of_text(text + "x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_text("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(error_of_text(std::string(1'000'000, '[')), HasSubstr("not valid JSON"));
}

TEST(hostile_tokenizer, holds_text_that_is_no_unicode) {
  std::string text = small_tokenizer().dump();
  const size_t at = text.find("\"ab\":2");
  EXPECT_NE(error_of_text(std::string(text).replace(at, 4, "\"a\xFF\"")), "");
  EXPECT_NE(error_of_text(std::string(text).replace(at, 4, "\"\\ud800\"")), "");
  EXPECT_NE(error_of_text(std::string(text).replace(at, 4, "\"\\udc00\"")), "");
}

TEST(hostile_tokenizer, has_a_token_of_a_hundred_megabytes) {
  const auto with = [](size_t bytes) {
    std::string text = small_tokenizer().dump();
    return error_of_text(text.insert(text.find("\"a\":0"), "\"" + std::string(bytes, 'x') + "\":4,"));
  };
  EXPECT_EQ(with(65'536), "");
  EXPECT_THAT(with(65'537), HasSubstr("has 65537 bytes; at most 65536 are supported"));
  EXPECT_THAT(with(100'000'000), HasSubstr("has 100000000 bytes; at most 65536 are supported"));
}

TEST(hostile_tokenizer, has_more_tokens_or_merges_than_any_real_one) {
  const auto with = [](const char* before, const char* behind_each, size_t count, const char* behind) {
    std::string text = before;
    for (size_t i = 0; i < count; ++i) ((text += '"') += std::to_string(i)) += behind_each;
    text.pop_back();
    return error_of_text(text += behind);
  };
  EXPECT_THAT(with(R"({"added_tokens": [], "model": {"merges": [], "vocab": {)", "\":0,", 4'194'304, "}}}"),
              HasSubstr("model.vocab: has more than 4194303 tokens"));
  EXPECT_THAT(with(R"({"added_tokens": [], "model": {"vocab": {"a": 0}, "merges": [)", "\",", 2'097'153, "]}}"),
              HasSubstr("model.merges: has more than 2097152 elements"));
  EXPECT_THAT(error_of_text(std::string(Tokenizer::kLargestFile + 1, ' ')), HasSubstr("at most 134217728 are read"));
}

TEST(hostile_tokenizer, grows_a_text_without_end) {
  Json step = Json::parse(R"({"type": "Replace", "pattern": {"String": "a"}, "content": ""})");
  step["content"] = std::string(1000, 'a');
  Json json = small_tokenizer();
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({step, step, step, step})}};
  EXPECT_THROW(parse(json).encode("aa", {}), std::invalid_argument);
  EXPECT_THAT(parse(json).encode("b", {}), ::testing::ElementsAre(1));
}

TEST(hostile_tokenizer, nests_its_parts_deeply) {
  Json json = small_tokenizer(), part = {{"type", "NFC"}};
  for (int depth = 0; depth < 20; ++depth) {
    part = {{"type", "Sequence"}, {"normalizers", Json::array({part})}};
    json["normalizer"] = part;
    if (depth < 8) {
      EXPECT_EQ(error_of(json), "") << depth;
    } else {
      EXPECT_THAT(error_of(json), HasSubstr("nested more than 8 levels")) << depth;
    }
  }
}

TEST(hostile_tokenizer, finds_no_memory_at_any_of_its_allocations) {
  Json json = small_tokenizer();
  json["added_tokens"] = Json::array({added_token(4, "<|im_start|>", true), added_token(5, "<|im_end|>", true)});
  json["normalizer"] = Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]})");
  json["pre_tokenizer"] = Json::parse(R"({"type": "Split", "pattern": {"Regex": "b+"}, "behavior": "Isolated", "invert": false})");
  const std::string text = json.dump();
  const char* const chatml =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>' }}";
  std::string said;
  size_t failures = 0;
  for (; failures < 10'000; ++failures) {
    const testing::AllocationWatch watch(failures + 1);
    try {
      const Tokenizer tokenizer = Tokenizer::parse(text, "test.json");
      const ChatTemplate chat(chatml, "chat template", {});
      const auto turn = chat_message("user", "ABAB<|im_end|>", jinja::Origin::person);
      const jinja::Text rendered = chat.render({.messages = jinja::Value::list({turn}, true)});
      said = tokenizer.decode(encode(tokenizer, chat.control_tokens(tokenizer), rendered, {}), {});
      break;
    } catch (const std::bad_alloc&) {
    } catch (const ResourceError&) {
    }
  }
  EXPECT_GT(failures, 100u);
  EXPECT_EQ(said, "<|im_start|> a b a b <|im_end|> <|im_start|>");
}

TEST(hostile_tokenizer, has_a_pattern_that_backtracks_without_end) {
  Json json = small_tokenizer();
  json["pre_tokenizer"] = Json::parse(R"({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false})");
  const Tokenizer tokenizer = parse(json);
  EXPECT_THAT(tokenizer.encode("a", {}), ::testing::ElementsAre(0));
  EXPECT_THROW(tokenizer.encode(std::string(5000, 'a') + "b", {}), std::invalid_argument);
}

}  // namespace
}  // namespace tessera

#include "grammar/schema_caps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tessera {
namespace {

using Kind = GrammarSource::Kind;
using testing::HasSubstr;
using testing::Optional;

// JSON of alternatives within each other.
std::string alternatives(int depth) {
  std::string schema = R"({"type": "string"})";
  for (int i = 0; i < depth; ++i) schema = R"({"anyOf": [{"type": "null"}, )" + schema + "]}";
  return schema;
}

std::string items(int depth) {
  std::string schema = R"({"type": "string"})";
  for (int i = 1; i < depth; ++i) schema = R"({"type": "array", "items": )" + schema + "}";
  return schema;
}

TEST(SchemaCaps, WhatIsAtACapPassesAndWhatIsBeyondIsRefused) {
  EXPECT_EQ(unenforced(alternatives(grammar_caps::kAlternativesDepth)), std::nullopt);
  EXPECT_THAT(unenforced(alternatives(grammar_caps::kAlternativesDepth + 1)), Optional(HasSubstr("nested more than 7 deep")));
  EXPECT_EQ(unenforced(items(grammar_caps::kDepth)), std::nullopt);
  EXPECT_THAT(unenforced(items(grammar_caps::kDepth + 1)), Optional(HasSubstr("nested more than 16 deep")));
  const auto pattern = [](size_t bytes) { return R"({"type": "string", "pattern": ")" + std::string(bytes, 'a') + R"("})"; };
  EXPECT_EQ(unenforced(pattern(grammar_caps::kPatternBytes)), std::nullopt);
  EXPECT_THAT(unenforced(pattern(grammar_caps::kPatternBytes + 1)), Optional(HasSubstr("513 bytes; at most 512")));
  EXPECT_EQ(refusal({Kind::regex, std::string(16, '(') + "a" + std::string(16, ')')}), std::nullopt);
  EXPECT_THAT(refusal({Kind::regex, std::string(17, '(') + "a" + std::string(17, ')')}), Optional(HasSubstr("more than 16 deep")));
  EXPECT_EQ(refusal({Kind::grammar, "root ::= " + std::string(64, '(') + "\"a\"" + std::string(64, ')')}), std::nullopt);
  EXPECT_THAT(refusal({Kind::grammar, "root ::= " + std::string(65, '(') + "\"a\"" + std::string(65, ')')}),
              Optional(HasSubstr("more than 64 deep")));
  EXPECT_EQ(unenforced(R"({"type": "string", "maxLength": 100000})"), std::nullopt);
  EXPECT_THAT(unenforced(R"({"type": "string", "maxLength": 100001})"), Optional(HasSubstr("0 to 100000")));
}

TEST(SchemaCaps, WhatIsQuotedDoesNotCount) {
  EXPECT_EQ(refusal({Kind::regex, "[((((((((((((((((((((]" + std::string(40, '\\') + "[*+][*]{2}a+?(?:b)"}), std::nullopt);
  EXPECT_EQ(refusal({Kind::grammar, "root ::= \"" + std::string(100, '(') + "\" # " + std::string(100, '(') + "\n"}), std::nullopt);
  // A property may be named as a keyword is.
  EXPECT_EQ(
      unenforced(R"({"type": "object", "properties": {"not": {"type": "string"}, "pattern": {"type": "integer"}, "enum": {"const": 1}}})"),
      std::nullopt);
}

TEST(SchemaCaps, AClosedSchemaSaysWhatItLeavesOpen) {
  EXPECT_EQ(closed_schema(R"({"type": "object"})"), R"({"type":"object","additionalProperties":true})");
  EXPECT_EQ(closed_schema(R"({"type": "object", "properties": {"b": {"type": "array"}, "a": {}}})"),
            R"({"type":"object","properties":{"b":{"type":"array","items":true},"a":{}}})");
  EXPECT_EQ(closed_schema(R"({"type": ["array", "null"], "items": {"type": "object"}})"),
            R"({"type":["array","null"],"items":{"type":"object","additionalProperties":true}})");
}

}  // namespace
}  // namespace tessera

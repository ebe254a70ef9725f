#include "checkpoint/config.h"

#include <gtest/gtest.h>

#include <functional>

#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;

using Read = std::function<void(const ConfigReader&)>;

std::string error(const std::string& json, const Read& read) {
  const JsonDocument document = parse_json(json, "config.json");
  return error_of([&] { read(ConfigReader(document.root(), "config.json")); });
}

struct Case {
  std::string json;
  Read read;
  std::string error;  // a part of it; "": accepted
};

const Read kHidden = [](const ConfigReader& c) { c.integer("hidden_size", {1, 1'000'000}, 2304); };
const Read kEpsilon = [](const ConfigReader& c) { c.number("rms_norm_eps", {.above = 0.0, .max = 1.0}, 1e-6); };
const Read kWindow = [](const ConfigReader& c) { c.optional_integer("sliding_window", {1, INT64_MAX}, 4096); };
const Read kTied = [](const ConfigReader& c) { c.boolean("tie_word_embeddings", true); };
const Read kActivation = [](const ConfigReader& c) { c.text("hidden_act", "silu"); };
const Read kText = [](const ConfigReader& c) { c.object("text_config")->integer("hidden_size", {1, 8}); };
const Read kIds = [](const ConfigReader& c) { c.integers("ids", {0, 9}, 3); };
const Read kFactors = [](const ConfigReader& c) { c.numbers("factors", {.above = 0.0}, 3); };
const Read kNames = [](const ConfigReader& c) { c.texts("names", 3); };

TEST(config, refuses_what_a_field_may_not_hold_naming_the_file_and_the_field) {
  const std::vector<Case> cases = {
      {R"({"hidden_size": 1})", kHidden, ""},
      {R"({})", kHidden, ""},
      {R"({"hidden_size": 0})", kHidden, "config.json: hidden_size is 0: must be an integer from 1 to 1000000"},
      {R"({"hidden_size": -1})", kHidden, "config.json: hidden_size is -1: must be"},
      {R"({"hidden_size": 1000000})", kHidden, ""},
      {R"({"hidden_size": 1000000000000})", kHidden, "hidden_size is 1000000000000: must be"},
      {R"({"hidden_size": 9223372036854775808})", kHidden, "hidden_size is 9223372036854775808: must be"},
      {R"({"hidden_size": 18446744073709551617})", kHidden, "hidden_size is 1.8446744073709552e+19: must be"},
      {R"({"hidden_size": "4096"})", kHidden, "hidden_size is \"4096\": must be"},
      {R"({"hidden_size": 4096.5})", kHidden, "hidden_size is 4096.5: must be"},
      {R"({"hidden_size": 4096.0})", kHidden, "hidden_size is 4096.0: must be"},
      {R"({"hidden_size": null})", kHidden, "hidden_size is null: must be"},
      {R"({"hidden_size": true})", kHidden, "hidden_size is true: must be"},
      {R"({"hidden_size": [1]})", kHidden, "hidden_size is a list of 1: must be"},
      {R"({"hidden_size": {}})", kHidden, "hidden_size is an object: must be"},
      {R"({"rms_norm_eps": 1e-5})", kEpsilon, ""},
      {R"({"rms_norm_eps": 1})", kEpsilon, ""},
      {R"({"rms_norm_eps": 0})", kEpsilon, "rms_norm_eps is 0: must be a number above 0 up to 1"},
      {R"({"rms_norm_eps": 1.5})", kEpsilon, "rms_norm_eps is 1.5: must be"},
      {R"({"rms_norm_eps": "1e-6"})", kEpsilon, "rms_norm_eps is \"1e-6\": must be"},
      {R"({"rms_norm_eps": null})", kEpsilon, "rms_norm_eps is null: must be"},
      {R"({"sliding_window": null})", kWindow, ""},
      {R"({"sliding_window": 0})", kWindow, "sliding_window is 0: must be an integer >= 1"},
      {R"({"tie_word_embeddings": false})", kTied, ""},
      {R"({"tie_word_embeddings": 0})", kTied, "tie_word_embeddings is 0: must be true or false"},
      {R"({"hidden_act": "gelu"})", kActivation, ""},
      {R"({"hidden_act": null})", kActivation, "hidden_act is null: must be text"},
      {R"({"text_config": {"hidden_size": 8}})", kText, ""},
      {R"({"text_config": {"hidden_size": 9}})", kText, "config.json: text_config.hidden_size is 9: must be"},
      {R"({"text_config": {}})", kText, "config.json: text_config.hidden_size is missing"},
      {R"({"text_config": 3})", kText, "config.json: text_config is 3: must be an object"},
      {R"({"ids": [0, 9]})", kIds, ""},
      {R"({"ids": [0, 10]})", kIds, "config.json: ids[1] is 10: must be an integer from 0 to 9"},
      {R"({"ids": [0, 1, 2, 3]})", kIds, "ids is a list of 4: at most 3 are allowed"},
      {R"({"ids": 1})", kIds, "ids is 1: must be a list"},
      {R"({})", kIds, "ids is missing"},
      {R"({"factors": [1, 1.5]})", kFactors, ""},
      {R"({"factors": [1, 0]})", kFactors, "factors[1] is 0: must be a number above 0"},
      {R"({"names": ["a"]})", kNames, ""},
      {R"({"names": ["a", 1]})", kNames, "names[1] is 1: must be text"},
      {R"([])", kHidden, "config.json: is a list of 0, not an object"},
      {R"("x")", kHidden, "config.json: is \"x\", not an object"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.json);
    const std::string got = error(c.json, c.read);
    EXPECT_TRUE(c.error.empty() ? got.empty() ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << got : holds(got, c.error));
  }
}

TEST(config, absent_fields_have_their_default_and_null_is_none) {
  const JsonDocument document = parse_json(R"({"none": null, "given": 7})", "config.json");
  const ConfigReader config(document.root(), "config.json");
  EXPECT_EQ(config.integer("absent", {1, 9}, 2304), 2304);
  EXPECT_EQ(config.number("absent", {}, 0.5), 0.5);
  EXPECT_EQ(config.number("given", {}, 0.5), 7.0);
  EXPECT_EQ(config.text("absent", "silu"), "silu");
  EXPECT_TRUE(config.boolean("absent", true));
  EXPECT_EQ(config.optional_integer("absent", {1, 9}, 4), 4);
  EXPECT_EQ(config.optional_integer("none", {1, 9}, 4), std::nullopt);
  EXPECT_EQ(config.optional_integer("given", {1, 9}, 4), 7);
  EXPECT_EQ(config.optional_number("none", {}, 4.0), std::nullopt);
  EXPECT_EQ(config.optional_text("none"), std::nullopt);
  EXPECT_FALSE(config.object("none"));
  EXPECT_FALSE(config.object("absent"));
  EXPECT_TRUE(config.contains("none"));
  EXPECT_FALSE(config.is_set("none"));
  EXPECT_TRUE(config.is_set("given"));
}

TEST(config, a_refusal_shows_the_value) {
  const Read refuse = [](const ConfigReader& c) { c.refuse("quantization_config", "not supported"); };
  EXPECT_EQ(error(R"({"quantization_config": {}})", refuse), "config.json: quantization_config is an object: not supported");
  EXPECT_EQ(error(R"({})", refuse), "config.json: quantization_config is missing: not supported");
}

}  // namespace
}  // namespace tessera

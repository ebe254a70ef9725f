#include "checkpoint/rope_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;

Gemma3Rope gemma3(const std::string& json) {
  const JsonDocument document = parse_json(json, "config.json");
  return read_gemma3_rope(ConfigReader(document.root(), "config.json"));
}

Phi3Rope phi3(const std::string& json, int64_t head_dim = 4, int64_t max_positions = 131072) {
  const JsonDocument document = parse_json(json, "config.json");
  return read_phi3_rope(ConfigReader(document.root(), "config.json"), head_dim, max_positions);
}

// The expected values are those of transformers 5.23's Gemma3TextConfig(**json).rope_parameters.
TEST(rope_config, gemma3_reads_both_spellings_as_transformers_does) {
  struct Case {
    std::string json;
    double full_theta, full_factor, sliding_theta, sliding_factor;
  };
  const std::vector<Case> cases = {
      {R"({})", 1e6, 1, 1e4, 1},
      {R"({"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": null})", 5e5, 1, 2e4, 1},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 8.0}})", 1e6, 8, 1e4, 1},
      {R"({"rope_scaling": {"rope_type": "default"}})", 1e6, 1, 1e4, 1},
      {R"({"rope_scaling": {"type": "linear", "factor": 8.0}})", 1e6, 1, 1e4, 1},
      {R"({"rope_scaling": {}})", 1e6, 1, 1e4, 1},
      {R"({"rope_parameters": null, "rope_theta": 5})", 5, 1, 1e4, 1},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 3e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 3e4}}})",
       3e6, 8, 3e4, 1},
      {R"({"rope_parameters": {"full_attention": {"type": "linear", "factor": 8.0, "rope_theta": 5.0}}})", 5, 8, 1e4, 1},
      {R"({"rope_parameters": {"full_attention": {}, "sliding_attention": null}, "rope_scaling": {"type": "linear", "factor": 2.0}})", 1e6,
       2, 1e4, 1},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "linear", "factor": 3}}})",
       1e6, 1, 1e4, 3},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.json);
    const Gemma3Rope rope = gemma3(c.json);
    EXPECT_EQ(rope.full.theta, c.full_theta);
    EXPECT_EQ(rope.full.factor, c.full_factor);
    EXPECT_EQ(rope.sliding.theta, c.sliding_theta);
    EXPECT_EQ(rope.sliding.factor, c.sliding_factor);
  }
}

TEST(rope_config, gemma3_refuses_what_it_does_not_know_naming_the_field) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"rope_scaling": {"rope_type": "frob"}})",
       "rope_scaling.rope_type is \"frob\": for Gemma 3, \"default\" and \"linear\" are supported"},
      {R"({"rope_scaling": {"rope_type": null}})", "rope_scaling.rope_type is null"},
      {R"({"rope_scaling": {"rope_type": "linear"}})", "rope_scaling.factor is missing"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})", "rope_scaling.factor is 0: must be"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": -8}})", "rope_scaling.factor is -8: must be"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": "8"}})", "rope_scaling.factor is \"8\": must be"},
      {R"({"rope_scaling": "linear"})", "rope_scaling is \"linear\": must be an object"},
      {R"({"rope_theta": 0})", "config.json: rope_theta is 0: must be"},
      {R"({"rope_local_base_freq": null})", "rope_local_base_freq is null: must be"},
      {R"({"rope_parameters": {"rope_type": "linear", "factor": 8}})", "rope_parameters is an object: for Gemma 3 it holds full_attention"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}})", "rope_parameters.full_attention.rope_type is \"yarn\""},
      {R"({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 0}}})",
       "rope_parameters.sliding_attention.factor is 0"},
  };
  for (const auto& [json, expected] : cases) EXPECT_TRUE(holds(error_of([&] { gemma3(json); }), expected)) << json;
  EXPECT_THROW(gemma3(R"({"rope_scaling": {"rope_type": "linear", "factor": NaN}})"), FileError);
}

const std::string kLists = R"("short_factor": [1.0, 1.1], "long_factor": [2, 64.5])";

TEST(rope_config, phi3_reads_longrope_under_its_three_names) {
  for (const std::string spelling : {R"("type": "longrope")", R"("rope_type": "longrope")", R"("type": "su")", R"("type": "yarn")",
                                     R"("type": "linear", "rope_type": "longrope")"}) {
    for (const std::string field : {"rope_scaling", "rope_parameters"}) {
      const Phi3Rope rope = phi3(R"({")" + field + R"(": {)" + spelling + ", " + kLists + "}}");
      EXPECT_EQ(rope.rotary_dim, 4);
      EXPECT_EQ(rope.theta, 1e4);
      EXPECT_EQ(rope.short_factor, (std::vector<float>{1.0f, 1.1f}));
      EXPECT_EQ(rope.long_factor, (std::vector<float>{2.0f, 64.5f}));
      EXPECT_EQ(rope.original_max_position_embeddings, 4096);
      EXPECT_FLOAT_EQ(rope.attention_factor, 1.1902380714f);  // measured: transformers on Phi-3-mini-128k
    }
  }
}

TEST(rope_config, phi3_reads_theta_rotating_part_and_lengths_from_where_transformers_does) {
  EXPECT_EQ(phi3(R"({})", 96).rotary_dim, 96);
  EXPECT_EQ(phi3(R"({})", 96).attention_factor, 1.0f);
  EXPECT_TRUE(phi3(R"({})", 96).short_factor.empty());
  EXPECT_EQ(phi3(R"({"partial_rotary_factor": 0.75})", 128).rotary_dim, 96);
  EXPECT_EQ(
      phi3(R"({"partial_rotary_factor": 0.75, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})", 128).rotary_dim,
      64);
  EXPECT_EQ(phi3(R"({"rope_theta": 9})").theta, 9.0);
  EXPECT_EQ(phi3(R"({"rope_theta": 9, "rope_parameters": {"rope_theta": 3}})").theta, 3.0);
  EXPECT_EQ(phi3(R"({"rope_scaling": {}, "rope_parameters": {"rope_theta": 3}})").theta, 3.0);
  EXPECT_EQ(phi3(R"({"rope_scaling": {"type": "default", "rope_theta": 4}, "rope_parameters": {"rope_theta": 3}})").theta, 4.0);
  EXPECT_TRUE(phi3(R"({"rope_scaling": {"type": "longrope", "rope_type": "default", )" + kLists + "}}").short_factor.empty());

  const auto longrope = [](const std::string& top, const std::string& inside) {
    return phi3("{" + top + R"("rope_scaling": {"type": "longrope", )" + inside + kLists + "}}", 4, 8192);
  };
  EXPECT_EQ(longrope("", R"("original_max_position_embeddings": 77, )").original_max_position_embeddings, 4096);
  EXPECT_EQ(longrope(R"("original_max_position_embeddings": 99, )", R"("original_max_position_embeddings": 77, )")
                .original_max_position_embeddings,
            99);
  EXPECT_FLOAT_EQ(longrope(R"("original_max_position_embeddings": 64, )", "").attention_factor, 1.4719601444f);  // measured: transformers
  EXPECT_FLOAT_EQ(longrope("", R"("factor": 32.0, )").attention_factor, 1.1902380714f);
  EXPECT_FLOAT_EQ(longrope("", R"("factor": 0.5, )").attention_factor, 1.0f);
  EXPECT_FLOAT_EQ(longrope("", R"("attention_factor": 1.25, "factor": 32.0, )").attention_factor, 1.25f);
  EXPECT_FLOAT_EQ(longrope("", R"("attention_factor": null, "factor": null, )").attention_factor,
                  std::sqrt(1.0f + std::log(2.0f) / std::log(4096.0f)));
}

TEST(rope_config, phi3_refuses_what_it_does_not_know_naming_the_field) {
  const auto scaling = [](const std::string& inside) { return R"({"rope_scaling": {)" + inside + "}}"; };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {scaling(R"("type": "linear", "factor": 2.0)"),
       "rope_scaling.type is \"linear\": for Phi-3, \"default\" and \"longrope\" are supported"},
      {scaling(R"("rope_type": "frob")"), "rope_scaling.rope_type is \"frob\""},
      {scaling(R"("type": "longrope", "long_factor": [1, 1])"), "rope_scaling.short_factor is missing"},
      {scaling(R"("type": "longrope", "short_factor": [1, 1])"), "rope_scaling.long_factor is missing"},
      {scaling(R"("type": "longrope", "short_factor": [1], "long_factor": [1, 1])"),
       "short_factor is a list of 1: half of the 4 rotating values of a head need 2"},
      {scaling(R"("type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1, 1])"), "long_factor is a list of 3: half of"},
      {scaling(R"("type": "longrope", "short_factor": [1, 0], "long_factor": [1, 1])"), "short_factor[1] is 0: must be"},
      {scaling(R"("type": "longrope", "short_factor": [1, "1"], "long_factor": [1, 1])"), "short_factor[1] is \"1\": must be"},
      {scaling(R"("type": "longrope", "factor": 0, )" + kLists), "rope_scaling.factor is 0: must be"},
      {scaling(R"("type": "longrope", "attention_factor": -1, )" + kLists), "rope_scaling.attention_factor is -1: must be"},
      {R"({"original_max_position_embeddings": 1})", "original_max_position_embeddings is 1: must be"},
      {R"({"partial_rotary_factor": 0})", "partial_rotary_factor is 0: must be"},
      {R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor is 1.5: must be"},
      {R"({"partial_rotary_factor": 0.8})", "partial_rotary_factor is 0.8: of a head of 4 values 3 would rotate"},
      {R"({"rope_theta": -1})", "rope_theta is -1: must be"},
  };
  for (const auto& [json, expected] : cases) EXPECT_TRUE(holds(error_of([&] { phi3(json); }), expected)) << json;
}

}  // namespace
}  // namespace tessera

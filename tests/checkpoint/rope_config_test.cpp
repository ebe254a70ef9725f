#include "checkpoint/rope_config.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;

// Of a class with one rotary embedding, heads of 16 and a context of 1024.
Rotary llama(const std::string& json) {
  const JsonDocument document = parse_json(json, "config.json");
  return read_rope(ConfigReader(document.root(), "config.json"), {.head_dim = 16, .max_position_embeddings = 1024});
}

constexpr RopeName kGemma3Types[] = {{"default", RopeType::standard}, {"linear", RopeType::linear}};
struct LayerRopes {
  Rotary full, sliding;
};
LayerRopes gemma3(const std::string& json) {
  const JsonDocument document = parse_json(json, "config.json");
  const ConfigReader config(document.root(), "config.json");
  const auto read = [&](const char* layers, const char* scaling, const char* theta_field, double theta) {
    return read_layer_rope(config, layers, scaling, theta_field, {8, 131072, theta, {}, false, kGemma3Types});
  };
  return {read("full_attention", "rope_scaling", "rope_theta", 1e6), read("sliding_attention", "", "rope_local_base_freq", 1e4)};
}

constexpr RopeName kPhi3Types[] = {
    {"default", RopeType::standard}, {"longrope", RopeType::longrope}, {"yarn", RopeType::longrope}, {"su", RopeType::longrope}};
Rotary phi3(const std::string& json, int64_t head_dim = 4, int64_t max_positions = 131072) {
  const JsonDocument document = parse_json(json, "config.json");
  return read_rope(ConfigReader(document.root(), "config.json"), {head_dim, max_positions, 1e4, 4096, true, kPhi3Types});
}

// The expected values are those of transformers 5.23: LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=16,
// max_position_embeddings=1024, **json)), its inv_freq and attention_scaling.
TEST(rope_config, frequencies_and_attention_factor_are_those_of_transformers) {
  struct Case {
    std::string json;
    std::vector<float> frequencies;
    double attention_factor;
  };
  const std::vector<Case> cases = {
      {R"({})", {1, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f}, 1},
      {R"({"rope_theta": 500})",
       {1, 0.459863275f, 0.21147424f, 0.0972492471f, 0.0447213612f, 0.0205657128f, 0.0094574159f, 0.00434911856f},
       1},
      {R"({"rope_theta": 500, "rope_parameters": {"rope_theta": 50}})",
       {1, 0.61323756f, 0.376060307f, 0.230614305f, 0.141421363f, 0.0867248923f, 0.0531829596f, 0.0326137878f},
       1},
      {R"({"rope_theta": 500, "rope_scaling": {"rope_theta": 5e3, "type": "default"}})",
       {1, 0.344848841f, 0.118920714f, 0.0410096683f, 0.0141421361f, 0.0048768986f, 0.00168179278f, 0.000579964253f},
       1},
      {R"({"rope_scaling": {"type": "linear", "factor": 4}})",
       {0.25f, 0.079056941f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1},
      {R"({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4}})",
       {1, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f},
       1},
      {R"({"rope_scaling": {"rope_type": "dynamic", "factor": 3}})",
       {1, 0.316227764f, 0.100000001f, 0.0316227786f, 0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f},
       1},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}, "rope_theta": 100})",
       {1, 0.562341332f, 0.244384587f, 0.0643098727f, 0.0130422562f, 0.0070292661f, 0.00395284733f, 0.00222284929f},
       1},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}, "rope_theta": 500000})",
       {1, 0.193922758f, 0.0376060307f, 0.000671844929f, 4.41941702e-05f, 8.57025589e-06f, 1.66196742e-06f, 3.22293289e-07f},
       1},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}, "rope_theta": 100, "original_max_position_embeddings": 16})",
       {0.576056361f, 0.141146094f, 0.0395284705f, 0.0222284924f, 0.0125000002f, 0.0070292661f, 0.00395284733f, 0.00222284929f},
       1},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "truncate": false}})",
       {1, 0.14849025f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 32}})",
       {1, 0.163054943f, 0.00312500005f, 0.000988211832f, 0.000312499993f, 9.88211832e-05f, 3.12500015e-05f, 9.88211832e-06f},
       1.34657359},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "mscale": 0.7}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "mscale": 0.7, "mscale_all_dim": 0.3}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.05323768},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "mscale": 1, "mscale_all_dim": 0}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "attention_factor": 1.5}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.5},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "beta_fast": 0, "beta_slow": null}})",
       {1, 0.197642356f, 0.0250000004f, 0.00790569466f, 0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "beta_fast": 8, "beta_slow": 2, "truncate": false}, "rope_theta": 100})",
       {1, 0.302601039f, 0.079056941f, 0.0444569848f, 0.0250000004f, 0.0140585322f, 0.00790569466f, 0.00444569858f},
       1.13862944},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2}})",
       {1, 0.316227764f, 0.087500006f, 0.023717083f, 0.00624999963f, 0.00158113893f, 0.000500000024f, 0.000158113893f},
       1.06931472},
      {R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.5, 2, 2.5, 1, 1, 1, 1], "long_factor": [4, 5, 6, 7, 8, 9, 10, 11], "original_max_position_embeddings": 32}})",
       {1, 0.210818499f, 0.0500000007f, 0.0126491114f, 0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f},
       1.41421356},
      {R"({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.5, 2, 2.5, 1, 1, 1, 1], "long_factor": [4, 5, 6, 7, 8, 9, 10, 11]}})",
       {1, 0.210818499f, 0.0500000007f, 0.0126491114f, 0.00999999978f, 0.00316227786f, 0.00100000005f, 0.000316227786f},
       1},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.json);
    const Rotary rotary = llama(c.json);
    ASSERT_EQ(rotary.inverse_frequencies.size(), c.frequencies.size());
    for (size_t i = 0; i < c.frequencies.size(); ++i)
      EXPECT_NEAR(rotary.inverse_frequencies[i] / c.frequencies[i], 1.0f, 4e-7f) << "frequency " << i;
    EXPECT_FLOAT_EQ(rotary.attention_factor, static_cast<float>(c.attention_factor));
  }
}

TEST(rope_config, longrope_s_boundary_is_the_original_context_or_else_the_whole) {
  const std::string lists = R"("short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [4, 5, 6, 7, 8, 9, 10, 11])";
  const auto rope = [&](const std::string& inside, const std::string& top) {
    return llama(R"({"rope_scaling": {"rope_type": "longrope", )" + inside + lists + "}" + top + "}");
  };
  EXPECT_EQ(rope(R"("original_max_position_embeddings": 32, )", "").long_after, 32);
  EXPECT_EQ(rope(R"("original_max_position_embeddings": 32, )", R"(, "original_max_position_embeddings": 64)").long_after, 64);
  EXPECT_EQ(rope("", "").long_after, 1024);
  EXPECT_FLOAT_EQ(rope("", "").long_inverse_frequencies[1], 0.316227764f / 5);
}

TEST(rope_config, a_rope_carries_its_own_description) {
  const Rotary linear = llama(R"({"rope_scaling": {"type": "linear", "factor": 4}, "rope_theta": 500})");
  EXPECT_EQ(linear.type, "linear");
  EXPECT_EQ(linear.theta, 500);
  EXPECT_EQ(linear.factor, 4);
  EXPECT_EQ(linear.dim, 16);
  EXPECT_EQ(phi3(R"({"rope_scaling": {"type": "su", "short_factor": [1, 1], "long_factor": [1, 1]}})").type, "longrope");
}

TEST(rope_config, what_an_architecture_does_not_have_is_refused_naming_the_field) {
  const auto scaling = [](const std::string& inside) { return R"({"rope_scaling": {)" + inside + "}}"; };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {scaling(R"("rope_type": "proportional")"),
       R"(rope_scaling.rope_type is "proportional": this architecture's are "default", "linear", "dynamic", "llama3", "yarn", "longrope")"},
      {scaling(R"("rope_type": "linear")"), "rope_scaling.factor is missing"},
      {scaling(R"("rope_type": "dynamic")"), "rope_scaling.factor is missing"},
      {scaling(R"("rope_type": "dynamic", "factor": null)"), "rope_scaling.factor is null"},
      {scaling(R"("rope_type": "yarn")"), "rope_scaling.factor is missing"},
      {scaling(R"("rope_type": "yarn", "factor": 4, "beta_fast": -1)"), "rope_scaling.beta_fast is -1: must be"},
      {scaling(R"("rope_type": "yarn", "factor": 4, "truncate": 1)"), "rope_scaling.truncate is 1: must be"},
      {scaling(R"("rope_type": "llama3", "factor": 8, "high_freq_factor": 4)"), "rope_scaling.low_freq_factor is missing"},
      {scaling(R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 0, "high_freq_factor": 4)"), "rope_scaling.low_freq_factor is 0"},
      {R"({"rope_theta": 1, "rope_scaling": {"rope_type": "yarn", "factor": 4}})",
       "rope_scaling.rope_type is yarn, with which a frequency is no number; are rope_theta, 1"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor is 0.5: this architecture rotates whole heads"},
      {scaling(R"("rope_type": "default", "partial_rotary_factor": 0.5)"), "rope_scaling.partial_rotary_factor is 0.5"},
      {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})", "rope_parameters is an object: this architecture has one"},
      {scaling(R"("sliding_attention": {})"), "rope_scaling is an object: this architecture has one"},
  };
  for (const auto& [json, expected] : cases) EXPECT_TRUE(holds(error_of([&] { llama(json); }), expected)) << json;
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
    const LayerRopes rope = gemma3(c.json);
    EXPECT_EQ(rope.full.theta, c.full_theta);
    EXPECT_EQ(rope.full.factor, c.full_factor);
    EXPECT_EQ(rope.sliding.theta, c.sliding_theta);
    EXPECT_EQ(rope.sliding.factor, c.sliding_factor);
  }
}

TEST(rope_config, gemma3_refuses_what_it_does_not_know_naming_the_field) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"rope_scaling": {"rope_type": "frob"}})", "rope_scaling.rope_type is \"frob\": this architecture's are \"default\", \"linear\""},
      {R"({"rope_scaling": {"rope_type": null}})", "rope_scaling.rope_type is null"},
      {R"({"rope_scaling": {"rope_type": "linear"}})", "rope_scaling.factor is missing"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})", "rope_scaling.factor is 0: must be"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": -8}})", "rope_scaling.factor is -8: must be"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": "8"}})", "rope_scaling.factor is \"8\": must be"},
      {R"({"rope_scaling": "linear"})", "rope_scaling is \"linear\": must be an object"},
      {R"({"rope_theta": 0})", "config.json: rope_theta is 0: must be"},
      {R"({"rope_local_base_freq": null})", "rope_local_base_freq is null: must be"},
      {R"({"rope_parameters": {"rope_type": "linear", "factor": 8}})",
       "rope_parameters is an object: for this architecture it holds full_attention"},
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
      const Rotary rope = phi3(R"({")" + field + R"(": {)" + spelling + ", " + kLists + "}}");
      EXPECT_EQ(rope.dim, 4);
      EXPECT_EQ(rope.theta, 1e4);
      EXPECT_FLOAT_EQ(rope.inverse_frequencies[1], 0.01f / 1.1f);
      EXPECT_FLOAT_EQ(rope.long_inverse_frequencies[0], 1 / 2.0f);
      EXPECT_FLOAT_EQ(rope.long_inverse_frequencies[1], 0.01f / 64.5f);
      EXPECT_EQ(rope.long_after, 4096);
      EXPECT_FLOAT_EQ(rope.attention_factor, 1.1902380714f);  // measured: transformers on Phi-3-mini-128k
    }
  }
}

TEST(rope_config, phi3_reads_theta_rotating_part_and_lengths_from_where_transformers_does) {
  EXPECT_EQ(phi3(R"({})", 96).dim, 96);
  EXPECT_EQ(phi3(R"({})", 96).attention_factor, 1.0f);
  EXPECT_TRUE(phi3(R"({})", 96).long_inverse_frequencies.empty());
  EXPECT_EQ(phi3(R"({"partial_rotary_factor": 0.75})", 128).dim, 96);
  EXPECT_EQ(phi3(R"({"partial_rotary_factor": 0.75, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})", 128).dim,
            64);
  EXPECT_EQ(phi3(R"({"rope_theta": 9})").theta, 9.0);
  EXPECT_EQ(phi3(R"({"rope_theta": 9, "rope_parameters": {"rope_theta": 3}})").theta, 3.0);
  EXPECT_EQ(phi3(R"({"rope_scaling": {}, "rope_parameters": {"rope_theta": 3}})").theta, 3.0);
  EXPECT_EQ(phi3(R"({"rope_scaling": {"type": "default", "rope_theta": 4}, "rope_parameters": {"rope_theta": 3}})").theta, 4.0);
  EXPECT_TRUE(phi3(R"({"rope_scaling": {"type": "longrope", "rope_type": "default", )" + kLists + "}}").long_inverse_frequencies.empty());

  const auto longrope = [](const std::string& top, const std::string& inside) {
    return phi3("{" + top + R"("rope_scaling": {"type": "longrope", )" + inside + kLists + "}}", 4, 8192);
  };
  EXPECT_EQ(longrope("", R"("original_max_position_embeddings": 77, )").long_after, 4096);
  EXPECT_EQ(longrope(R"("original_max_position_embeddings": 99, )", R"("original_max_position_embeddings": 77, )").long_after, 99);
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
       "rope_scaling.type is \"linear\": this architecture's are \"default\", \"longrope\", \"yarn\", \"su\""},
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
      {R"({"original_max_position_embeddings": 1, "rope_scaling": {"type": "longrope", )" + kLists + "}}",
       "original_max_position_embeddings is 1: must be"},
      {R"({"partial_rotary_factor": 0})", "partial_rotary_factor is 0: must be"},
      {R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor is 1.5: must be"},
      {R"({"partial_rotary_factor": 0.8})", "partial_rotary_factor is 0.8: of a head of 4 values 3 would rotate"},
      {R"({"rope_theta": -1})", "rope_theta is -1: must be"},
  };
  for (const auto& [json, expected] : cases) EXPECT_TRUE(holds(error_of([&] { phi3(json); }), expected)) << json;
}

}  // namespace
}  // namespace tessera

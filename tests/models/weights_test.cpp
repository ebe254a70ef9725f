#include "checkpoint/weights.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/memory_source.h"
#include "core/error.h"
#include "cpu/cpu_device.h"
#include "models/registry.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.what();
  }
  return "";
}

class WeightsTest : public testing::Test {
 protected:
  MemorySource::Item item(const std::string& name, const std::vector<int64_t>& shape = {8, 4}) const {
    size_t count = 1;
    for (const int64_t dimension : shape) count *= static_cast<size_t>(dimension);
    return {name, StoredType::float32, shape, std::as_bytes(std::span(values_, count))};
  }
  const float values_[32]{};
  cpu::CpuDevice device_{{.threads = 1}};
};

TEST_F(WeightsTest, absent_misshapen_taken_twice_and_left_over_tensors_are_named) {
  MemorySource source({item("a.weight"), item("b.weight")});
  Weights weights(source, device_, {});
  EXPECT_NE(error_of([&] { weights.take("c.weight", {1, 1, 8, 4}, Role::down); }).find("lacks tensor \"c.weight\""), std::string::npos);
  EXPECT_NE(error_of([&] { weights.take("b.weight", {1, 1, 4, 8}, Role::down); }).find("has shape [8, 4]; config.json asks for [4, 8]"),
            std::string::npos);
  const Tensor a = weights.take("a.weight", {1, 1, 8, 4}, Role::down);
  EXPECT_EQ(a.shape(), (Shape{1, 1, 8, 4}));
  EXPECT_THROW(weights.take("a.weight", {1, 1, 8, 4}, Role::down), std::logic_error) << "a fault of the model, not of the file";
}

TEST_F(WeightsTest, leftovers_in_the_models_own_place_are_an_error_unless_skipped_by_name) {
  MemorySource source({item("vision_tower.x.weight"), item("model.b.weight")});
  Weights weights(source, device_, {});
  weights.skip_prefix("vision_tower.");
  EXPECT_NE(error_of([&] { weights.expect_all_taken(); }).find("\"model.b.weight\""), std::string::npos);
  weights.take("model.b.weight", {1, 1, 8, 4}, Role::down);
  EXPECT_NO_THROW(weights.expect_all_taken());
  EXPECT_TRUE(weights.notes().empty());
}

TEST_F(WeightsTest, other_leftovers_are_one_note) {
  MemorySource source({item("model.layers.0.q_proj.lora_A.weight"), item("score.weight"), item("model.layers.0.cos_cached")});
  Weights weights(source, device_, {});
  EXPECT_NO_THROW(weights.expect_all_taken());
  ASSERT_EQ(weights.notes().size(), 1u);
  EXPECT_NE(weights.notes()[0].find("holds 3 tensors that the model does not use, \"model.layers.0.cos_cached\" first"), std::string::npos);
}

TEST_F(WeightsTest, a_bias_is_taken_with_its_weight_and_only_if_it_is_asked_for) {
  MemorySource source({item("model.a.weight"), item("model.a.bias", {8}), item("model.b.weight"), item("model.b.bias", {4})});
  Weights weights(source, device_, {});
  weights.take("model.a.weight", {1, 1, 8, 4}, Role::output, Bias::each_output);
  EXPECT_NE(error_of([&] {
              weights.take("model.b.weight", {1, 1, 8, 4}, Role::output, Bias::each_output);
            }).find("\"model.b.bias\" has shape [4]; config.json asks for [8]"),
            std::string::npos);
  Weights without(source, device_, {});
  without.take("model.a.weight", {1, 1, 8, 4}, Role::output);
  EXPECT_NE(error_of([&] { without.expect_all_taken(); }).find("\"model.a.bias\""), std::string::npos);
}

TEST_F(WeightsTest, values_that_are_not_finite_are_noted) {
  const float values[2] = {1.0f, std::numeric_limits<float>::infinity()};
  MemorySource source({{"n.weight", StoredType::float32, {2}, std::as_bytes(std::span(values))}});
  Weights weights(source, device_, {});
  weights.take_norm("n.weight", 2, 0.0f);
  ASSERT_EQ(weights.notes().size(), 1u);
  EXPECT_NE(weights.notes()[0].find("n.weight"), std::string::npos);
}

// Why no model is made of these.
std::string refused(const std::string& architecture, const Json& config, const std::vector<MemorySource::Item>& items = {}) {
  cpu::CpuDevice device({.threads = 1});
  MemorySource source(items);
  Weights weights(source, device, {});
  const JsonDocument document = parse_json(config.dump(), "config.json");
  return error_of([&] { make_model(architecture, ConfigReader(document.root(), "config.json"), weights); });
}

TEST(models, refuse_what_they_do_not_implement_by_its_name) {
  EXPECT_NE(refused("Gemma3ForCausalLM", {{"attention_bias", true}}).find("attention_bias"), std::string::npos);
  EXPECT_NE(refused("Gemma3ForCausalLM", {{"num_key_value_heads", 3}}).find("num_key_value_heads"), std::string::npos);
  EXPECT_NE(refused("Gemma3ForCausalLM", {{"head_dim", 63}}).find("head_dim"), std::string::npos);
  EXPECT_NE(refused("Gemma3ForCausalLM", {{"hidden_activation", "relu"}}).find("hidden_activation"), std::string::npos);
  EXPECT_NE(refused("Phi3ForCausalLM", {{"hidden_size", 100}, {"num_attention_heads", 3}}).find("hidden_size"), std::string::npos);
  EXPECT_NE(refused("Phi3ForCausalLM", {{"hidden_act", "gelu"}}).find("hidden_act"), std::string::npos);
  EXPECT_NE(refused("LlamaForCausalLM", {{"hidden_size", 100}, {"num_attention_heads", 3}}).find("hidden_size"), std::string::npos);
  EXPECT_NE(refused("MistralForCausalLM", {{"sliding_window", 0}}).find("sliding_window"), std::string::npos);
  EXPECT_NE(refused("Qwen2ForCausalLM", {{"head_dim", nullptr}}).find("head_dim"), std::string::npos);
  EXPECT_NE(
      refused("Qwen2ForCausalLM", {{"layer_types", Json::array({"sliding_attention"})}, {"num_hidden_layers", 1}}).find("layer_types"),
      std::string::npos);
  EXPECT_NE(refused("Qwen3ForCausalLM", {{"hidden_act", "relu"}}).find("hidden_act"), std::string::npos);
  EXPECT_NE(refused("FrobForCausalLM", Json::object()).find("these are: ArceeForCausalLM"), std::string::npos);
}

TEST(models, parse_the_configs_of_every_gemma_3) {
  // What the hub's config.json say; the class defaults fill the rest. The first tensor that is asked for tells how the config was read.
  const float value = 1;
  const MemorySource::Item one{
      "language_model.model.embed_tokens.weight", StoredType::float32, {1, 1}, std::as_bytes(std::span(&value, 1))};
  struct Case {
    Json text;
    std::string first_tensor;
  };
  for (const Case& c :
       {Case{{{"hidden_size", 640}, {"vocab_size", 262144}}, "[262144, 640]"},
        Case{{{"hidden_size", 1152}, {"vocab_size", 262144}}, "[262144, 1152]"}, Case{{{"hidden_size", 2560}}, "[262208, 2560]"},
        Case{{{"hidden_size", 3840}}, "[262208, 3840]"}, Case{{{"hidden_size", 5376}}, "[262208, 5376]"}}) {
    const std::string error = refused("Gemma3ForConditionalGeneration", {{"text_config", c.text}}, {one});
    EXPECT_NE(error.find("config.json asks for " + c.first_tensor), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace tessera

#include "checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include "allocations.h"
#include "reads.h"
#include "support.h"

namespace tessera {
namespace {

using testing::error_of;
using testing::holds;
using testing::TemporaryDirectory;

std::string open_error(const std::string& config) {
  const TemporaryDirectory directory;
  directory.write("config.json", config);
  return error_of([&] { Checkpoint::open(directory.path().string()); });
}

std::optional<std::string> chat_template(const TemporaryDirectory& directory, Checkpoint::Tools tools = Checkpoint::Tools::absent) {
  const auto found = Checkpoint::open(directory.path().string()).chat_files(tools).chat_template;
  return found ? std::optional(found->text) : std::nullopt;
}

TEST(checkpoint, tells_what_a_directory_holds) {
  const TemporaryDirectory directory;
  directory.write("config.json",
                  R"({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "eos_token_id": 3, "vocab_size": 10})");
  directory.write("model.safetensors",
                  testing::safetensors(R"({"model.norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8));
  directory.write("tokenizer.json", "{}");
  const Checkpoint checkpoint = Checkpoint::open(directory.path().string());
  EXPECT_EQ(checkpoint.directory(), directory.path());
  EXPECT_EQ(checkpoint.architecture(), "Gemma3ForCausalLM");
  EXPECT_EQ(checkpoint.model_type(), "gemma3_text");
  EXPECT_EQ(checkpoint.config().integer("vocab_size", {1, 100}), 10);
  EXPECT_EQ(checkpoint.generation_config({}, 10).tokens.eos, (std::vector<TokenId>{3}));
  EXPECT_EQ(checkpoint.weights()->tensors().size(), 1u);
  EXPECT_EQ(checkpoint.tokenizer(), directory.path() / "tokenizer.json");
  EXPECT_FALSE(checkpoint.chat_files(Checkpoint::Tools::given).chat_template);
}

TEST(checkpoint, refuses_a_bad_config_naming_what_is_wrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "config.json: not valid JSON: "},
      {R"({"model_type": "x")", "config.json: not valid JSON: "},
      {"[]", "config.json: is a list of 0, not an object"},
      {R"({"a": 1, "a": 2})", "config.json: JSON key \"a\" stands twice"},
      {R"({"architectures": "Gemma3ForCausalLM"})", "architectures is \"Gemma3ForCausalLM\": must be a list"},
      {R"({"architectures": [1]})", "architectures[0] is 1: must be text"},
      {R"({"model_type": 1})", "model_type is 1: must be text"},
      {R"({"quantization_config": {"quant_method": "gptq"}})", "a checkpoint quantised by \"gptq\" is not supported"},
      {R"({"text_config": {"quantization_config": {}}})", "text_config.quantization_config is an object: a checkpoint quantised by"},
  };
  EXPECT_EQ(open_error("{}"), "");
  EXPECT_EQ(open_error(R"({"architectures": null, "quantization_config": null})"), "");
  EXPECT_EQ(open_error(R"({"architectures": [], "auto_map": {"AutoModel": "evil.Evil"}})"), "");
  for (const auto& [config, expected] : cases) EXPECT_TRUE(holds(open_error(config), expected));
}

TEST(checkpoint, refuses_files_that_are_absent_or_too_large_before_reading_them) {
  const TemporaryDirectory directory;
  const auto error = [&] { return error_of([&] { Checkpoint::open(directory.path().string()); }); };
  EXPECT_TRUE(holds(error(), ": is empty"));
  directory.write("README.md", "");
  EXPECT_TRUE(holds(error(), "config.json: is not there"));
  directory.write("config.json", "{}");
  EXPECT_EQ(error(), "");
  EXPECT_TRUE(holds(error_of([&] { Checkpoint::open(directory.path().string()).tokenizer(); }), "tokenizer.json: is not there"));
  std::filesystem::resize_file(directory / "config.json", uint64_t{1} << 36);
  const testing::AllocationWatch watch;
  EXPECT_TRUE(holds(error(), "config.json: has 68719476736 bytes; at most 16777216 are read"));
  EXPECT_LT(watch.largest(), 100'000u);
}

TEST(checkpoint, finds_the_chat_template_where_transformers_does) {
  const TemporaryDirectory directory;
  directory.write("config.json", "{}");
  EXPECT_EQ(chat_template(directory), std::nullopt);
  directory.write("chat_template.json", R"({"chat_template": "third"})");
  EXPECT_EQ(chat_template(directory), "third");
  directory.write("tokenizer_config.json", R"({"chat_template": null})");
  EXPECT_EQ(chat_template(directory), "third");
  directory.write("tokenizer_config.json",
                  R"({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "second"}]})");
  EXPECT_EQ(chat_template(directory), "second");
  EXPECT_EQ(chat_template(directory, Checkpoint::Tools::given), "tools");
  directory.write("tokenizer_config.json", R"({"chat_template": "second as text"})");
  EXPECT_EQ(chat_template(directory), "second as text");
  directory.write("chat_template.jinja", "first");
  EXPECT_EQ(chat_template(directory), "first");
  EXPECT_EQ(chat_template(directory, Checkpoint::Tools::given), "first");
  std::filesystem::create_directory(directory / "additional_chat_templates");
  directory.write("additional_chat_templates/tool_use.jinja", "first tools");
  EXPECT_EQ(chat_template(directory), "first");
  EXPECT_EQ(chat_template(directory, Checkpoint::Tools::given), "first tools");
}

TEST(checkpoint, knows_the_texts_of_special_tokens_as_transformers_does) {
  const TemporaryDirectory directory;
  directory.write("config.json", "{}");
  const auto tokens = [&] { return Checkpoint::open(directory.path().string()).chat_files(Checkpoint::Tools::absent).special_tokens; };
  using Tokens = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(tokens(), Tokens());
  directory.write("tokenizer_config.json",
                  R"({"add_bos_token": true, "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null})");
  EXPECT_EQ(tokens(), (Tokens{{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
  directory.write("special_tokens_map.json", R"({"eos_token": "<end>", "unk_token": "<unk>"})");
  EXPECT_EQ(tokens(), (Tokens{{"bos_token", "<s>"}, {"eos_token", "<end>"}, {"unk_token", "<unk>"}}));
  directory.write("tokenizer_config.json", R"({"added_tokens_decoder": {}, "eos_token": "</s>"})");
  EXPECT_EQ(tokens(), (Tokens{{"eos_token", "</s>"}}));
}

TEST(checkpoint, refuses_a_bad_chat_template) {
  const TemporaryDirectory directory;
  directory.write("config.json", "{}");
  const auto error = [&](const std::string& file, const std::string& bytes) {
    directory.write(file, bytes);
    return error_of([&] { chat_template(directory); });
  };
  EXPECT_TRUE(holds(error("tokenizer_config.json", R"({"chat_template": 1})"), "tokenizer_config.json: chat_template is 1: must be text"));
  EXPECT_TRUE(holds(error("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})"),
                    "none of them is named \"default\""));
  EXPECT_TRUE(holds(error("tokenizer_config.json", R"({"chat_template": [{"template": "x"}]})"), "chat_template[0].name is missing"));
  EXPECT_TRUE(holds(error("tokenizer_config.json", R"({"chat_template": ")" + std::string((1 << 20) + 1, 'x') + "\"}"),
                    "chat_template has 1048577 bytes; at most 1048576"));
  EXPECT_TRUE(
      holds(error("chat_template.jinja", std::string((1 << 20) + 1, 'x')), "chat_template.jinja: has 1048577 bytes; at most 1048576"));
}

TEST(checkpoint, every_failing_allocation_is_a_clean_bad_alloc) {
  const TemporaryDirectory directory;
  directory.write("config.json", R"({"architectures": ["A"], "model_type": "a", "text_config": {"list": [1, [2, {"x": "y"}]]}})");
  directory.write("generation_config.json", R"({"eos_token_id": [1, 2], "temperature": 0.5})");
  directory.write("tokenizer_config.json", R"({"chat_template": [{"name": "default", "template": "x"}]})");
  const std::string name = directory.path().string();
  size_t failures = 0;
  for (size_t n = 1;; ++n) {
    ASSERT_LT(n, 10'000u);
    const testing::AllocationWatch watch(n);
    try {
      const Checkpoint checkpoint = Checkpoint::open(name);
      checkpoint.generation_config({}, 10);
      checkpoint.chat_files(Checkpoint::Tools::given);
      break;
    } catch (const std::bad_alloc&) {
      ++failures;
    }
  }
  EXPECT_GT(failures, 50u);
}

TEST(checkpoint, every_failing_read_is_an_error_that_names_the_file_and_the_byte) {
  const TemporaryDirectory directory;
  directory.write("config.json", R"({"model_type": "a"})");
  directory.write("generation_config.json", R"({"eos_token_id": 7})");
  const std::string name = directory.path().string();
  const auto read = [&] { return Checkpoint::open(name).generation_config({}, 10).tokens.eos; };
  size_t failures = 0;
  for (size_t n = 1;; ++n) {
    ASSERT_LT(n, 1000u);
    const testing::BadReads reads(n);
    const std::string error = error_of(read);
    if (error.empty()) break;
    EXPECT_TRUE(holds(error, "config.json: cannot be read at byte "));
    EXPECT_TRUE(holds(error, "Input/output error"));
    ++failures;
  }
  EXPECT_EQ(failures, 75u);  // 38 bytes one by one, with an interruption between each two
  const testing::BadReads reads(0);
  EXPECT_EQ(read(), (std::vector<TokenId>{7}));
}

}  // namespace
}  // namespace tessera

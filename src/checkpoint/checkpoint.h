#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/safetensors_source.h"
#include "core/json.h"

namespace tessera {

// What a checkpoint's files say of chats.
struct ChatFiles {
  struct Template {
    std::string text;
    std::string place;  // the file, and the field in it: "tokenizer_config.json: chat_template"
  };
  std::optional<Template> chat_template;
  std::vector<std::pair<std::string, std::string>> special_tokens;  // bos_token, eos_token and so on, with their texts
};

// A checkpoint's directory, as Hugging Face writes it. Everything in it is foreign: sizes are bounded, and neither its Python files nor its
// pickles are ever run. Opening reads config.json alone; the rest is read when asked for. All throw FileError.
class Checkpoint {
 public:
  // See locate_model (hub.h). Refuses a quantised checkpoint.
  static Checkpoint open(std::string_view name_or_directory, const std::optional<std::string>& revision = std::nullopt);

  const std::filesystem::path& directory() const { return directory_; }

  // config.json's root; a multimodal checkpoint has the language model's in its "text_config".
  ConfigReader config() const;
  std::string config_digest() const;                                 // of config.json's values
  const std::string& architecture() const { return architecture_; }  // architectures[0]; "" when there is none
  const std::string& model_type() const { return model_type_; }      // "" when there is none

  // generation_config.json may be absent. `source`: "auto", the checkpoint's own; "none", of which the special tokens are read alone; or
  // another file in its place.
  void use_generation_config(std::string source) { generation_config_ = std::move(source); }
  GenerationConfig generation_config(const SpecialTokens& defaults, int64_t vocab_size) const;
  std::unique_ptr<WeightSource> weights() const;

  std::filesystem::path tokenizer() const;  // tokenizer.json, which is there

  // The chat template that transformers takes: of chat_template.jinja and additional_chat_templates/NAME.jinja, else of chat_template in
  // tokenizer_config.json, a text or a list of named ones, else of chat_template.json. Of several, "tool_use" if there are tools, else
  // "default". Special tokens are tokenizer_config.json's and, if it has no "added_tokens_decoder", special_tokens_map.json's.
  enum class Tools { absent, given };
  ChatFiles chat_files(Tools tools) const;

 private:
  Checkpoint(std::filesystem::path directory, JsonDocument config);

  std::filesystem::path directory_;
  JsonDocument config_;
  std::string architecture_, model_type_;
  std::string generation_config_ = "auto";
};

}  // namespace tessera

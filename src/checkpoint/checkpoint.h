#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "checkpoint/config.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/safetensors_source.h"
#include "core/json.h"

namespace tessera {

// A checkpoint's directory, as Hugging Face writes it. Everything in it is foreign: sizes are bounded, and neither its Python files nor its
// pickles are ever run. Opening reads config.json alone; the rest is read when asked for. All throw FileError.
class Checkpoint {
 public:
  // See locate_model (hub.h). Refuses a quantised checkpoint.
  static Checkpoint open(std::string_view name_or_directory);

  const std::filesystem::path& directory() const { return directory_; }

  // config.json's root; a multimodal checkpoint has the language model's in its "text_config".
  ConfigReader config() const;
  const std::string& architecture() const { return architecture_; }  // architectures[0]; "" when there is none
  const std::string& model_type() const { return model_type_; }      // "" when there is none

  // generation_config.json may be absent. `source`: "auto", the checkpoint's own; "none", of which the special tokens are read alone; or
  // another file in its place.
  void use_generation_config(std::string source) { generation_config_ = std::move(source); }
  GenerationConfig generation_config(const SpecialTokens& defaults, int64_t vocab_size) const;
  std::unique_ptr<WeightSource> weights() const;

  std::filesystem::path tokenizer() const;  // tokenizer.json, which is there

  // chat_template.jinja, else chat_template of tokenizer_config.json (of several, the one named "default"), else chat_template.json.
  std::optional<std::string> chat_template() const;

 private:
  Checkpoint(std::filesystem::path directory, JsonDocument config);

  std::filesystem::path directory_;
  JsonDocument config_;
  std::string architecture_, model_type_;
  std::string generation_config_ = "auto";
};

}  // namespace tessera

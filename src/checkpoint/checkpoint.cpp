#include "checkpoint/checkpoint.h"

#include <utility>

#include "checkpoint/hub.h"
#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

void refuse_quantised(const ConfigReader& config) {
  if (!config.is_set("quantization_config")) return;
  const std::optional<ConfigReader> quantization = config.object("quantization_config");
  const std::string method = quantization->is_set("quant_method") ? quantization->text("quant_method") : "";
  config.refuse("quantization_config", "a checkpoint quantised by ", printable(method),
                " is not supported; take the original one, stored as float32, float16 or bfloat16, and quantise it here");
}

}  // namespace

Checkpoint Checkpoint::open(std::string_view name_or_directory, const std::optional<std::string>& revision) {
  fs::path directory = locate_model(name_or_directory, revision);
  const std::string config = (directory / "config.json").string();
  check<FileError>(is_there(config), config, ": is not there: ", directory.string(), " holds no checkpoint, or its download is incomplete");
  return Checkpoint(std::move(directory), read_json(config));
}

Checkpoint::Checkpoint(fs::path directory, JsonDocument config) : directory_(std::move(directory)), config_(std::move(config)) {
  const ConfigReader root = this->config();
  if (root.is_set("architectures")) {
    const std::vector<std::string> names = root.texts("architectures", 100);
    if (!names.empty()) architecture_ = names.front();
  }
  model_type_ = root.optional_text("model_type").value_or("");
  refuse_quantised(root);
  if (const std::optional<ConfigReader> text = root.object("text_config")) refuse_quantised(*text);
}

ConfigReader Checkpoint::config() const { return ConfigReader(config_.root(), (directory_ / "config.json").string()); }

GenerationConfig Checkpoint::generation_config(const SpecialTokens& defaults, int64_t vocab_size) const {
  const bool none = generation_config_ == "none", own = none || generation_config_ == "auto";
  const std::string path = own ? (directory_ / "generation_config.json").string() : generation_config_;
  const JsonDocument document = own && !is_there(path) ? parse_json("{}", path) : read_json(path);
  const ConfigReader file(document.root(), path);
  if (none) return {.tokens = read_special_tokens(file, config(), defaults, vocab_size)};
  return read_generation_config(file, config(), defaults, vocab_size);
}

std::unique_ptr<WeightSource> Checkpoint::weights() const { return std::make_unique<SafetensorsSource>(directory_); }

fs::path Checkpoint::tokenizer() const {
  fs::path path = directory_ / "tokenizer.json";
  check<FileError>(is_there(path), path.string(),
                   ": is not there: only tokenizer.json is supported; save_pretrained of transformers' fast tokenizer writes one");
  return path;
}

}  // namespace tessera

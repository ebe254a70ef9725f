#include "checkpoint/checkpoint.h"

#include <utility>

#include "checkpoint/foreign_files.h"
#include "checkpoint/hub.h"
#include "core/digest.h"
#include "core/error.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

JsonDocument read_document(const std::string& path) {
  const std::string text = read_file(path, JsonLimits().max_bytes);
  expect_no_pointer(text, path);
  return parse_json(text, path);
}

}  // namespace

Checkpoint Checkpoint::open(std::string_view name_or_directory, const std::optional<std::string>& revision) {
  fs::path directory = locate_model(name_or_directory, revision);
  const std::string config = (directory / "config.json").string();
  if (!is_there(config)) refuse_without_config(directory);
  return Checkpoint(std::move(directory), read_document(config));
}

Checkpoint::Checkpoint(fs::path directory, JsonDocument config) : directory_(std::move(directory)), config_(std::move(config)) {
  const ConfigReader root = this->config();
  if (root.is_set("architectures")) {
    const std::vector<std::string> names = root.texts("architectures", 100);
    if (!names.empty()) architecture_ = names.front();
  }
  model_type_ = root.optional_text("model_type").value_or("");
  expect_unquantised(root);
  if (const std::optional<ConfigReader> text = root.object("text_config")) expect_unquantised(*text);
}

ConfigReader Checkpoint::config() const { return ConfigReader(config_.root(), (directory_ / "config.json").string()); }

std::string Checkpoint::config_digest() const { return digest(simdjson::minify(config_.root())); }

GenerationConfig Checkpoint::generation_config(const SpecialTokens& defaults, int64_t vocab_size) const {
  const bool none = generation_config_ == "none", own = none || generation_config_ == "auto";
  const std::string path = own ? (directory_ / "generation_config.json").string() : generation_config_;
  const JsonDocument document = own && !is_there(path) ? parse_json("{}", path) : read_document(path);
  const ConfigReader file(document.root(), path);
  if (none) return {.tokens = read_special_tokens(file, config(), defaults, vocab_size)};
  return read_generation_config(file, config(), defaults, vocab_size);
}

std::unique_ptr<WeightSource> Checkpoint::weights() const { return std::make_unique<SafetensorsSource>(directory_); }

fs::path Checkpoint::tokenizer() const {
  fs::path path = directory_ / "tokenizer.json";
  if (!is_there(path)) refuse_without_tokenizer(directory_);
  constexpr uintmax_t kPointer = 1024;  // bytes that a pointer of git-lfs is shorter than
  std::error_code error;
  if (fs::is_regular_file(path, error) && fs::file_size(path, error) < kPointer)
    expect_no_pointer(read_file(path.string(), kPointer), path.string());
  return path;
}

}  // namespace tessera

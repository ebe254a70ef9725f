#include "tiny_models.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "checkpoint/safetensors_source.h"
#include "models/registry.h"

namespace tessera {

TinyCheckpoint::TinyCheckpoint(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(TESSERA_TINY) / name;
  config_ = Json::parse(read_file(folder / "config.json", 1 << 20));
  SafetensorsSource file(folder);
  for (const StoredTensor& stored : file.tensors()) {
    Tensor& tensor = tensors_.emplace_back(Tensor{stored.name, stored.shape, std::vector<uint16_t>(stored.bytes / 2)});
    std::memcpy(tensor.values.data(), file.lend(stored.name).data(), stored.bytes);
  }
}

void TinyCheckpoint::scale(const std::string& name, float factor) {
  const auto tensor = std::find_if(tensors_.begin(), tensors_.end(), [&](const Tensor& t) { return t.name == name; });
  for (uint16_t& bits : tensor->values) bits = to_bfloat16(to_float(bfloat16{bits}) * factor).bits;
}

std::unique_ptr<MemorySource> TinyCheckpoint::source() const {
  std::vector<MemorySource::Item> items;
  for (const Tensor& t : tensors_) items.push_back({t.name, StoredType::bfloat16, t.shape, std::as_bytes(std::span(t.values))});
  return std::make_unique<MemorySource>(items);
}

std::unique_ptr<Model> TinyCheckpoint::load(Device& device, const ModelOptions& options) const {
  const auto weights_source = source();
  Weights weights(*weights_source, device, options);
  return load(weights);
}

std::unique_ptr<Model> TinyCheckpoint::load(Weights& weights) const {
  const JsonDocument config = parse_json(config_.dump(), "config.json");
  return make_model(config_["architectures"][0], ConfigReader(config.root(), "config.json"), weights);
}

TinyCheckpoint tiny_gemma3(int64_t window) { return TinyCheckpoint(window == 4 ? "small-gemma3-window-4" : "small-gemma3"); }

TinyCheckpoint tiny_phi3(bool longrope) { return TinyCheckpoint(longrope ? "small-phi3-longrope-64" : "small-phi3"); }

std::vector<TokenId> random_tokens(size_t count, uint32_t seed) {
  std::minstd_rand random(seed + 1);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 300);
  return tokens;
}

}  // namespace tessera

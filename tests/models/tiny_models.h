#pragma once
// Small models of random bfloat16 weights, made in memory: every branch of the architectures at sizes that a plain C++ kernel bears.
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/memory_source.h"
#include "checkpoint/weights.h"
#include "core/json.h"
#include "ops/model.h"

namespace tessera {

class TinyCheckpoint {
 public:
  TinyCheckpoint(std::string architecture, Json config) : architecture_(std::move(architecture)), config_(std::move(config)) {}

  // Values in (-scale, scale), the same for the same name.
  void add(const std::string& name, std::vector<int64_t> shape, float scale);
  void scale(const std::string& name, float factor);  // a power of two or minus one: exactly
  std::unique_ptr<MemorySource> source() const;
  std::unique_ptr<Model> load(Device& device, const ModelOptions& options) const;
  std::unique_ptr<Model> load(Weights& weights) const;  // made of a source of its own

 private:
  std::string architecture_;
  Json config_;
  std::vector<std::string> names_;
  std::vector<std::vector<int64_t>> shapes_;
  std::vector<std::vector<uint16_t>> values_;
};

// 3 layers, two of them with a window; 4 heads on 1 key head, head_dim 64; 300 tokens.
TinyCheckpoint tiny_gemma3(int64_t window = 512);

// 2 layers; 4 heads on 4 key heads, head_dim 96; 300 tokens; LongRoPE that changes after 64 tokens when asked for.
TinyCheckpoint tiny_phi3(bool longrope);

std::vector<TokenId> random_tokens(size_t count, uint32_t seed);

}  // namespace tessera

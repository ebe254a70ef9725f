#pragma once
// The checkpoints that tests/python/tiny_checkpoints.py writes for ctest, in memory: every branch of the architectures at sizes that a
// plain C++ kernel bears.
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/memory_source.h"
#include "checkpoint/weights.h"
#include "ops/model.h"

namespace tessera {

using Json = nlohmann::json;

class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(const std::string& name);

  void scale(const std::string& name, float factor);  // a power of two or minus one: exactly
  std::unique_ptr<MemorySource> source() const;
  std::unique_ptr<Model> load(Device& device, const ModelOptions& options) const;
  std::unique_ptr<Model> load(Weights& weights) const;  // made of a source of its own

 private:
  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<uint16_t> values;  // bfloat16
  };
  Json config_;
  std::vector<Tensor> tensors_;
};

// 3 layers, two of them with a window; 4 heads on 2 key heads, head_dim 64, hidden_size 96; 300 tokens.
TinyCheckpoint tiny_gemma3(int64_t window = 512);  // or 4

// 2 layers; 4 heads on 4 key heads, head_dim 96; 300 tokens; LongRoPE that changes after 64 tokens when asked for.
TinyCheckpoint tiny_phi3(bool longrope);

std::vector<TokenId> random_tokens(size_t count, uint32_t seed);

}  // namespace tessera

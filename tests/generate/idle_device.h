#pragma once
#include "ops/device.h"

namespace tessera {

// A device whose ops compute nothing: for tests of what stands around it.
class IdleDevice : public Device {
 public:
  Memory free_memory() override { return {}; }
  Tensor pack(std::span<const WeightPart>, const WeightSpec&, const Keep&) override { return {}; }
  void read(const Tensor&, std::span<float>) override {}
  void read_rows(const Tensor&, std::span<const int64_t>, std::span<float>) override {}
  std::vector<TokenId> argmax(const Tensor&, std::span<const int64_t>) override { return {}; }
  TopK topk(const Tensor&, std::span<const int64_t>, int64_t) override { return {}; }
  void parallel_for(int64_t pieces, const std::function<void(int64_t)>& run) override {
    for (int64_t piece = 0; piece < pieces; ++piece) run(piece);
  }
  Tensor embedding(const Step&, const Tensor&) override { return {}; }
  Tensor linear(const Tensor&, const Tensor&) override { return {}; }
  Tensor rms_norm(const Tensor&, const Tensor&, float) override { return {}; }
  Tensor rotary_embedding(const Tensor&, const Rotary&, const Step&) override { return {}; }
  QkvHeads nlp_create_qkv_heads(const Tensor&, int64_t, int64_t) override { return {}; }
  Tensor attention(const Tensor&, const Tensor&, const Tensor&, const Step&, const AttentionParams&) override { return {}; }
  Tensor nlp_concat_heads(const Tensor&) override { return {}; }
  Tensor gelu_mul(const Tensor&) override { return {}; }
  Tensor silu_mul(const Tensor&) override { return {}; }
  Tensor relu2(const Tensor&) override { return {}; }
  Tensor experts(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const RouterParams&) override { return {}; }
  Tensor add(const Tensor&, const Tensor&) override { return {}; }
  Tensor mul(const Tensor&, float) override { return {}; }
  Tensor softcap(const Tensor&, float) override { return {}; }
  Tensor select_rows(const Tensor&, const Step&) override { return {}; }

 private:
  Tensor execute(const Model&, const Batch&) override { return {}; }
};

}  // namespace tessera

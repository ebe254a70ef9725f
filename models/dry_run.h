#pragma once
#include <string>
#include <vector>

#include "checkpoint/weight_source.h"
#include "core/error.h"
#include "models/description.h"

namespace tessera {

// Another source's tensors without their bytes.
class HeadersOnly final : public WeightSource {
 public:
  explicit HeadersOnly(WeightSource& source) : source_(source) { tensors_ = source.tensors(); }
  std::span<const std::byte> lend(std::string_view) override { return {}; }
  void release(std::string_view) override {}
  bool equal(std::string_view a, std::string_view b) override { return source_.equal(a, b); }

 private:
  WeightSource& source_;
};

// Notes what it is asked to pack; a model made with it cannot run.
class DryDevice final : public Device {
 public:
  std::vector<ModelDescription::Weight> packed;

  std::string name() const override { return "none"; }
  Limits limits() const override { refuse(); }
  Memory free_memory() override { refuse(); }
  Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep&) override {
    bool exact = true;
    for (const WeightPart& part : parts) exact &= part.type == StoredType::bfloat16;
    packed.push_back({spec, exact});
    return Tensor(*this, spec.shape, DataType::float32, nullptr);
  }
  std::shared_ptr<Storage> make_cache(const CacheSpec&, DataType, std::span<const int64_t>) override { refuse(); }
  void copy_page(Storage&, size_t, int32_t, int32_t) override { refuse(); }
  void read(const Tensor&, std::span<float>) override { refuse(); }
  void read_rows(const Tensor&, std::span<const int64_t>, std::span<float>) override { refuse(); }
  std::vector<TokenId> argmax(const Tensor&, std::span<const int64_t>) override { refuse(); }
  TopK topk(const Tensor&, std::span<const int64_t>, int64_t) override { refuse(); }
  void parallel_for(int64_t, const std::function<void(int64_t)>&) override { refuse(); }

  Tensor embedding(const Step&, const Tensor&) override { refuse(); }
  Tensor linear(const Tensor&, const Tensor&) override { refuse(); }
  Tensor rms_norm(const Tensor&, const Tensor&, float) override { refuse(); }
  Tensor rotary_embedding(const Tensor&, const Rotary&, const Step&) override { refuse(); }
  QkvHeads nlp_create_qkv_heads(const Tensor&, int64_t, int64_t) override { refuse(); }
  Tensor attention(const Tensor&, const Tensor&, const Tensor&, const Step&, const AttentionParams&) override { refuse(); }
  Tensor nlp_concat_heads(const Tensor&) override { refuse(); }
  Tensor gelu_mul(const Tensor&) override { refuse(); }
  Tensor silu_mul(const Tensor&) override { refuse(); }
  Tensor relu2(const Tensor&) override { refuse(); }
  Tensor experts(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const RouterParams&) override { refuse(); }
  Tensor add(const Tensor&, const Tensor&) override { refuse(); }
  Tensor mul(const Tensor&, float) override { refuse(); }
  Tensor softcap(const Tensor&, float) override { refuse(); }
  Tensor select_rows(const Tensor&, const Step&) override { refuse(); }

 private:
  Tensor execute(const Model&, const Batch&) override { refuse(); }
  [[noreturn]] static void refuse() { fail<std::logic_error>("a model made without weights cannot run"); }
};

}  // namespace tessera

#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/device.h"

namespace tessera {

// What an op gave. Its name is the weight's in the checkpoint ("layers.3.self_attn.q_norm"; joined weights are self_attn.qkv_proj and
// mlp.gate_up_proj), or else the op's own ("layers.3.attention", "layers.3.rotary_embedding.q"). One that comes again in its layer is
// numbered ("layers.3.add_2"). A name says the same of every device and precision.
struct Observation {
  std::string name;
  std::string_view op;           // as in ops.h
  std::optional<int64_t> layer;  // nullopt: before the first, after the last
  Tensor output;
};

// Another device whose ops' outputs are kept until the next run, in the order in which the model asked for them. Nothing of a model or of
// the device changes, and models loaded without it pay nothing. A model must be loaded through it to be run through it. Not for two
// runs at a time. A device that replays recordings of a model does not do so here.
class ObservedDevice final : public Device {
 public:
  explicit ObservedDevice(std::shared_ptr<Device> observed) : inner_(std::move(observed)) {}

  // Of the last run.
  const std::vector<Observation>& observations() const { return observations_; }
  void forget() { observations_.clear(); }  // frees them early

  std::string name() const override { return inner_->name(); }
  Limits limits() const override { return inner_->limits(); }
  Tensor run(const Model& model, const Batch& batch) override;
  Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec) override;
  std::string packed_layout() const override { return inner_->packed_layout(); }
  Tensor restore(const KeptPieces& kept, const WeightSpec& spec) override;
  std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) override {
    return inner_->make_cache(spec, dtype, pages);
  }
  void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) override { inner_->copy_page(cache, group, from, to); }
  void read(const Tensor& x, std::span<float> out) override;
  std::vector<TokenId> argmax(const Tensor& logits) override { return inner_->argmax(bare(logits)); }
  TopK topk(const Tensor& logits, int64_t k) override { return inner_->topk(bare(logits), k); }

  Tensor embedding(const Step& step, const Tensor& table) override;
  Tensor linear(const Tensor& x, const Tensor& weight) override;
  Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon) override;
  Tensor rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) override;
  QkvHeads nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) override;
  Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) override;
  Tensor nlp_concat_heads(const Tensor& x) override;
  Tensor gelu_mul(const Tensor& gate_up) override;
  Tensor silu_mul(const Tensor& gate_up) override;
  Tensor add(const Tensor& a, const Tensor& b) override;
  Tensor mul(const Tensor& a, float b) override;
  Tensor softcap(const Tensor& x, float cap) override;
  Tensor select_rows(const Tensor& x, const Step& step) override;

 private:
  Tensor bare(const Tensor& x) const;  // as the observed device made it
  Tensor keep(std::string_view op, std::string name, const Tensor& output, std::string label = {});
  Tensor keep(std::string_view op, const Tensor& output, std::string label = {});
  Tensor keep_weighted(std::string_view op, const std::string& weight, const Tensor& output, std::string label = {});

  std::shared_ptr<Device> inner_;
  std::vector<Observation> observations_;
  std::optional<int64_t> layer_;  // of the last weight used
};

}  // namespace tessera

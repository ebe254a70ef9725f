#pragma once
#include <memory>
#include <mutex>
#include <string>

#include "cpu/thread_pool.h"
#include "ops/device.h"
#include "ttnn/card_step.h"
#include "ttnn/tiles.h"
#include "ttnn/ttnn_module.h"

namespace tessera::ttnn {

// A Tenstorrent n150, through the vendor's Python module TTNN 0.81.1. Activations are bfloat16, in tiles in the card's DRAM; heads of a
// decode are sharded over the cores, one user each. What TTNN wants padded, permuted, sharded or limited is done here, for the reason that
// stands beside it. Programs are compiled at the first call of a shape, so that shapes are few.
class TtnnDevice final : public Device {
 public:
  explicit TtnnDevice(std::unique_ptr<Module> ttnn);
  ~TtnnDevice() override;

  std::string name() const override { return "n150"; }
  Limits limits() const override;
  // Bytes of the card's memory that caches may take: what is free, less what a forward of the models packed so far takes for itself.
  size_t free_memory();

  Tensor run(const Batch& batch, const std::function<Tensor(const Step&)>& forward) override;
  Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec) override;
  std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) override;
  void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) override;
  void read(const Tensor& x, std::span<float> out) override;

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
  Tensor make(const Shape& shape, std::vector<nb::object> tensors, std::vector<int64_t> rows = {}, DataType dtype = DataType::bfloat16);
  Tensor make_heads(const Shape& shape, nb::object tensor);
  Tensor gated(const Tensor& gate_up, const char* activation);
  nb::object upload_tiles(std::span<const StoredRow> outputs, int64_t in, DataType dtype);
  nb::object upload_table(std::span<const StoredRow> outputs, int64_t in, DataType dtype);
  nb::object upload_integers(std::span<const int64_t> shape, std::span<const int32_t> values, const char* dtype);
  nb::object upload_angles(const std::vector<float>& values, int64_t half, const CardStep& step);
  nb::object upload_rotation(const CardStep& step);
  const RotaryInputs& rotary_inputs(const Rotary& rotary, const CardStep& step);
  const PageInputs& page_inputs(size_t group, int64_t pages, const CardStep& step);
  nb::object height_sharded(int64_t users, int64_t width);
  nb::object kernel_config(const char* fidelity);
  nb::object attention_config(int64_t queries, int64_t keys);

  std::unique_ptr<Module> ttnn_;
  cpu::ThreadPool pool_;
  nb::object dram_, tile_, row_major_, high_fidelity_, half_fidelity_, sdpa_chunk_, sdpa_decode_;
  int64_t widest_ = 0, vocab_ = 0;  // of the models packed so far
  const CardStep* step_ = nullptr;  // the one that runs
  std::mutex run_mutex_;
};

}  // namespace tessera::ttnn

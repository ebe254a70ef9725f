#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/attention.h"
#include "cpu/buffer_pool.h"
#include "cpu/cpu_step.h"
#include "cpu/isa.h"
#include "cpu/packed_weight.h"
#include "ops/device.h"

namespace tessera::cpu {

// Whose arithmetic is computed: the cpu's own, or card mode: of bfloat16 activations the digits are dropped and rounded as TTNN's kernels
// on an n150 do, so that a model's errors there can be seen without a card. A slice of one token is a decode, any other a chunk.
enum class Twin { none, card };

// "card"; nullopt is Twin::none. Throws std::invalid_argument for another name.
Twin parse_twin(const std::optional<std::string>& name);

struct CpuOptions {
  int threads = available_threads();
  Isa isa = default_isa();
  Twin twin = Twin::none;
};

// The processor of this machine. Activations are rows of tokens, [tokens][heads][width], float32 or bfloat16; a head tensor may be a view
// into a joined row. Results are the same bits for any number of threads, any neighbours and any split into chunks.
class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options = {});

  // The memory that pack() takes for a weight; `exact`: all its values are exact in bfloat16.
  static size_t weight_bytes(const WeightSpec& spec, bool exact);
  // The memory of a cache whose pages are all written.
  static size_t cache_bytes(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages);
  // Of a forward: activations at the widest weight's (alive_values), and logits beside their copy that is read back.
  static size_t working_bytes(DataType activations, int64_t widest, int64_t vocab);

  std::string name() const override { return "cpu"; }
  Isa isa() const { return isa_; }
  Twin twin() const { return twin_; }
  int threads() const { return pool_.size(); }
  Limits limits() const override;
  Memory free_memory() override;

  Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep& keep) override;
  std::string packed_layout() const override;
  Tensor restore(std::span<const std::span<const std::byte>> pieces, const std::shared_ptr<const MappedFile>& file,
                 const WeightSpec& spec) override;
  std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) override;
  void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) override;
  std::string page_layout() const override;
  size_t page_bytes(const Storage& cache, size_t group) const override;
  void read_page(const Storage& cache, size_t group, int32_t page, int64_t tokens, std::span<std::byte> out) const override;
  void write_page(Storage& cache, size_t group, int32_t page, std::span<const std::byte> bytes) override;
  void read(const Tensor& x, std::span<float> out) override;
  void read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) override;
  std::vector<TokenId> argmax(const Tensor& logits, std::span<const int64_t> rows) override;
  TopK topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) override;
  void parallel_for(int64_t pieces, const std::function<void(int64_t piece)>& run) override;

  Tensor embedding(const Step& step, const Tensor& table) override;
  Tensor linear(const Tensor& x, const Tensor& weight) override;
  Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon) override;
  Tensor rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) override;
  QkvHeads nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) override;
  Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) override;
  Tensor nlp_concat_heads(const Tensor& x) override;
  Tensor gelu_mul(const Tensor& gate_up) override;
  Tensor silu_mul(const Tensor& gate_up) override;
  Tensor relu2(const Tensor& x) override;
  Tensor experts(const Tensor& x, const Tensor& router_logits, const Tensor& gate_up, const Tensor& down,
                 const RouterParams& params) override;
  Tensor add(const Tensor& a, const Tensor& b) override;
  Tensor mul(const Tensor& a, float b) override;
  Tensor softcap(const Tensor& x, float cap) override;
  Tensor select_rows(const Tensor& x, const Step& step) override;

 private:
  Tensor execute(const Model& model, const Batch& batch) override;
  void each_row(const Tensor& logits, std::span<const int64_t> rows, const std::function<void(size_t, std::span<const float>)>& run);
  Tensor make(const Shape& shape, DataType dtype);
  Tensor make_weight(PackedWeight packed, const WeightSpec& spec);
  int64_t pair_heads(const WeightSpec& spec) const;
  Tensor read_by_half_fidelity(const Tensor& x);
  Tensor ready_for_blocks(const Tensor& x);

  Isa isa_, rows_isa_;  // the rows' ops are card mode's own
  Twin twin_;
  DataType activations_ = DataType::bfloat16;
  int64_t widest_ = 0, vocab_ = 0;  // of the models packed so far, as the activations are
  ThreadPool pool_;
  Attention attention_;
  const CpuStep* step_ = nullptr;  // while it runs
  std::shared_ptr<BufferPool> buffers_ = std::make_shared<BufferPool>();
  std::vector<std::weak_ptr<const MappedFile>> kept_files_;  // that weights lie in
};

}  // namespace tessera::cpu

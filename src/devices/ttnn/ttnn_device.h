#pragma once
#include <map>
#include <memory>
#include <string>

#include "core/thread_pool.h"
#include "ops/device.h"
#include "ttnn/card_step.h"
#include "ttnn/tiles.h"
#include "ttnn/traces.h"
#include "ttnn/ttnn_module.h"

namespace tessera::ttnn {

enum class Tracing { off, on };

// The page tables of a group of layers, on the card.
struct PageInputs {
  nb::object table;      // int32 [users, pages]
  nb::object positions;  // int32 [users], or [1]: the chunk's first position
  nb::object fill;       // of a chunk: int32 [1, pages that it fills]
};

// A Tenstorrent n150, through the vendor's Python module TTNN 0.81.1. Activations are bfloat16, in tiles in the card's DRAM; heads of a
// decode are sharded over the cores, one user each. What TTNN wants padded, permuted, sharded or limited is done here, for the reason that
// stands beside it. Programs are compiled at the first call of a shape, so that shapes are few. cos and sin are bfloat16, whatever
// Rotary::rounds says; what it has no ops for (n150_model.h) is refused.
//
// With Tracing::on, a decode (a token of each of up to 32 sequences) is recorded when its kind comes for the second time and replayed from
// then on: the model's forward is not called any more. A kind is a model, a cache, a number of users (padded), the widths of the page
// tables (128 pages, or a power of two beyond), and whether logits are wanted. The 8 recordings used last are kept. A new kind or program,
// and loading a model or making a cache, drop them all, and they are made again: what anybody else allocates on the card for good, which
// this device does not see, they would overwrite. Chunks of prompts, and all while the device is observed (compare), run as they come.
// Logits are good until the next run. Replays are not measured on silicon.
class TtnnDevice final : public Device {
 public:
  // `tell` takes what its user should know of; it is called with the GIL held.
  explicit TtnnDevice(std::unique_ptr<Module> ttnn, Tracing tracing = Tracing::off, Traces::Tell tell = {});
  ~TtnnDevice() override;

  std::string name() const override { return "n150"; }
  Limits limits() const override;
  Memory free_memory() override;

  Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep& keep) override;
  std::string packed_layout() const override;
  Tensor restore(std::span<const std::span<const std::byte>> pieces, const std::shared_ptr<const MappedFile>& file,
                 const WeightSpec& spec) override;  // copies them
  std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) override;
  void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) override;
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

 protected:
  std::unique_lock<std::mutex> take_turn() override;

 private:
  Tensor execute(const Model& model, const Batch& batch) override;
  TopK topk_here(const Tensor& logits, std::span<const int64_t> rows, int64_t k);
  Tensor make(const Shape& shape, std::vector<nb::object> tensors, std::vector<int64_t> rows = {}, DataType dtype = DataType::bfloat16);
  Tensor make_heads(const Shape& shape, nb::object tensor);
  Tensor into_heads(const Tensor& x, const Shape& heads);
  nb::object activated_product(const char* activation, const nb::object& a, const nb::object& b);
  Tensor gated(const Tensor& gate_up, const char* activation);
  const nb::object& factor(float value);
  nb::object upload_integers(std::span<const int64_t> shape, const char* dtype, int32_t first);
  nb::object looked_up(const nb::object& ids, const nb::object& table, const Shape& shape);
  // A tensor of a weight: a linear's tiles, [in, out]; its biases, [1, out] in tiles of float32; or a table, [out, in], row by row.
  struct Piece {
    enum { linear, biases, table } kind;
    Shape shape;
    DataType dtype;
    int64_t bytes() const;
  };
  static std::vector<Piece> pieces_of(const WeightSpec& spec);
  Tensor make_weight(const WeightSpec& spec, std::span<const Piece> pieces, const std::function<void(size_t, std::span<std::byte>)>& fill);
  // What a Step gives the card. `values`: of the Step, or of a later one that is like it.
  using Integers = std::function<std::vector<int32_t>(const CardStep&)>;
  nb::object integers(const Inputs::Name& name, const CardStep& step, std::vector<int64_t> shape, const char* dtype,
                      const Integers& values);
  nb::object angles(const char* name, const Rotary& rotary, int64_t head_dim, const CardStep& step, std::vector<float> RotaryRows::* values,
                    float elsewhere);
  nb::object rotation(const CardStep& step);
  nb::object partial_rotation(const Rotary& rotary, int64_t head_dim, const CardStep& step);
  const RotaryInputs& rotary_inputs(const Rotary& rotary, int64_t head_dim, const CardStep& step);
  PageInputs page_inputs(size_t group, const CardStep& step);
  nb::object height_sharded(int64_t users, int64_t width);
  nb::object kernel_config(const char* fidelity);
  nb::object attention_config(int64_t queries, int64_t keys);

  std::unique_ptr<Module> ttnn_;
  ThreadPool pool_;
  nb::object dram_, tile_, row_major_, high_fidelity_, half_fidelity_, sdpa_chunk_, sdpa_decode_;
  std::map<float, nb::object> factors_;  // that are no bfloat16
  int64_t widest_ = 0, vocab_ = 0;       // of the models packed so far
  const CardStep* step_ = nullptr;       // the one that runs
  Inputs* inputs_ = nullptr;             // and what it takes from the host
  std::unique_ptr<Traces> traces_;       // none: nothing is recorded
};

}  // namespace tessera::ttnn

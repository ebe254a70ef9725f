#pragma once
// The interface of a device: one pure virtual per op (the contracts are in ops.h), the packing of weights, the contents of caches, and
// run, the only way into a model. A device that lacks an op does not compile.
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/cache_spec.h"
#include "core/machine.h"
#include "core/mapped_file.h"
#include "core/stored_type.h"
#include "core/tensor.h"
#include "ops/observer.h"
#include "ops/rotary.h"
#include "ops/selection.h"

namespace tessera {

struct QkvHeads {
  Tensor q, k, v;  // [1, heads, tokens, head_dim], [1, kv_heads, tokens, head_dim] twice
};

struct AttentionParams {
  int64_t layer;
  float scale;
  std::optional<int64_t> window;      // keys that a query sees, its own included; nullopt: all before it
  std::optional<float> softcap = {};  // of the scaled scores: cap * tanh(score / cap)
};

// Which experts a token goes to.
struct RouterParams {
  int64_t top_k;
  bool norm_topk_prob;  // their weights add up to one
};

// Data types of one loaded model, not of a device: two precisions of a model can run side by side.
struct ModelOptions {
  DataType weights = DataType::bfloat16;      // float32, bfloat16, bfloat8_b, bfloat4_b
  DataType activations = DataType::bfloat16;  // float32, bfloat16: the embedding sets it, ops keep it
  DataType cache = DataType::bfloat16;        // float32, bfloat16, bfloat8_b
  DataType logits = DataType::float32;        // float32, bfloat16
};

// What a weight is for; a device packs, permutes, pads or shards by it.
enum class Role { embedding, tied_embedding, qkv, gate_up, up, output, down, head, norm, router, experts_gate_up, experts_down };

enum class Bias { none, each_output };

struct WeightSpec {
  Role role;
  Shape shape;  // [1, 1, out, in] of the parts joined; of experts [1, experts, out, in], each's parts in turn; a norm's is [1, 1, 1, width]
  Bias bias = Bias::none;
  ModelOptions options;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;  // of a qkv
  float offset = 0.0f;                                    // added to a norm
  std::string name = {};                                  // of its first part in the checkpoint; for people

  // "layers.3.self_attn.q_norm"; of joined parts the module's, as if it were one: "layers.3.self_attn.qkv_proj".
  std::string label() const;
};

// Values of a token that are alive together while this weight is multiplied with: the stream and the norm of it, and the attention's or the
// MLP's on their way.
int64_t alive_values(const WeightSpec& spec);

// What Batches a device takes; one outside is refused by name.
struct Limits {
  int64_t page_tokens;      // tokens in a page of the cache
  int64_t chunk_alignment;  // a prompt's chunks but the last are multiples of it
  int64_t max_chunk;        // tokens of one sequence in a Batch
  int64_t max_rows;         // tokens of a Batch
  int64_t max_logit_rows;   // rows of a Batch whose logits are wanted
  int64_t free_rows;        // up to so many tokens a Batch holds slices of several sequences, each of at most decode_tokens
  int64_t decode_tokens;    // a longer slice is a Batch of its own, and starts at a multiple of chunk_alignment
};

class Model;

class Device {
 public:
  Device() = default;
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  virtual std::string name() const = 0;
  virtual Limits limits() const = 0;
  // What caches may take: what is free, less what a forward of the models packed so far takes for itself.
  virtual Memory free_memory() = 0;

  // Prepares the Step, calls model.forward or replays a recording of it, then commits the sequences' lengths. One at a time: others wait.
  // Nothing is committed when it throws. Refuses a Batch outside limits(), token ids outside [0, vocab), positions past the cached
  // length, and pages made with LongRoPE's other set (std::invalid_argument).
  Tensor run(const Model& model, const Batch& batch);

  // From now on `observer` is shown each op of what runs here, whoever runs it, on the thread that does; until observe(nullptr). It must
  // not run or observe in turn. Waits for who runs now. std::logic_error when another observes already. A model is then called each time,
  // never replayed.
  void observe(Observer* observer);
  Observer* observer() const { return observer_; }

  // A weight of its own, packed for its role. What restore() makes the same weight of is handed to `keep`, if there is one, piece by piece;
  // a piece is borrowed for the call. Refuses parts that do not make up `spec.shape`; ResourceError when memory is short.
  using Keep = std::function<void(std::span<const std::byte> piece)>;
  virtual Tensor pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep& keep) = 0;

  // What kept pieces mean: a name that changes with them. Empty: this device keeps nothing.
  virtual std::string packed_layout() const { return {}; }
  // A weight from the pieces that were kept of the same spec, which lie in `file` at addresses divisible by 4096; an empty Tensor if they
  // cannot be that. If they are used in place, run() checks that the file is what it was.
  virtual Tensor restore(std::span<const std::span<const std::byte>> /*pieces*/, const std::shared_ptr<const MappedFile>& /*file*/,
                         const WeightSpec& /*spec*/) {
    return {};
  }

  // Room for `pages` pages of each group of `spec` (cache_groups), contents undefined.
  virtual std::shared_ptr<Storage> make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) = 0;
  virtual void copy_page(Storage& cache, size_t group, int32_t from, int32_t to) = 0;

  // What the bytes of a cache's pages mean, and whose arithmetic made them: a name that changes with either. Empty: pages cannot be read
  // and written, and the three calls below throw std::invalid_argument.
  virtual std::string page_layout() const { return {}; }
  // The bytes of one page of a group, in all its layers.
  virtual size_t page_bytes(const Storage& cache, size_t group) const;
  // Writes a page to `out`, page_bytes() long: its first `tokens` tokens, and zeros for those behind, which are undefined in the cache.
  virtual void read_page(const Storage& cache, size_t group, int32_t page, int64_t tokens, std::span<std::byte> out) const;
  virtual void write_page(Storage& cache, size_t group, int32_t page, std::span<const std::byte> bytes);

  // A tensor's values as float32, a row a token with its heads side by side; `out` has volume(x.shape()) values.
  virtual void read(const Tensor& x, std::span<float> out) = 0;

  // Of some rows of logits [1, 1, rows, vocab], each named once: all values, written to their places in `out` [rows, vocab]; the id of the
  // largest, the lowest if several are; the k <= min(vocab, kMaxTopK) largest, or some more. Who needs no more of the logits asks for no
  // more: a card gives a few numbers much sooner than all.
  virtual void read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) = 0;
  virtual std::vector<TokenId> argmax(const Tensor& logits, std::span<const int64_t> rows) = 0;
  virtual TopK topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) = 0;

  // Calls run(piece) once for each piece in [0, pieces), on the device's threads of this machine. Waits for who runs now. The first
  // exception that a piece throws is rethrown, after the others have ended.
  virtual void parallel_for(int64_t pieces, const std::function<void(int64_t piece)>& run) = 0;

  virtual Tensor embedding(const Step& step, const Tensor& table) = 0;
  virtual Tensor linear(const Tensor& x, const Tensor& weight) = 0;
  virtual Tensor rms_norm(const Tensor& x, const Tensor& weight, float epsilon) = 0;
  virtual Tensor rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) = 0;
  virtual QkvHeads nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) = 0;
  virtual Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) = 0;
  virtual Tensor nlp_concat_heads(const Tensor& x) = 0;
  virtual Tensor gelu_mul(const Tensor& gate_up) = 0;
  virtual Tensor silu_mul(const Tensor& gate_up) = 0;
  virtual Tensor relu2(const Tensor& x) = 0;
  virtual Tensor experts(const Tensor& x, const Tensor& router_logits, const Tensor& gate_up, const Tensor& down,
                         const RouterParams& params) = 0;
  virtual Tensor add(const Tensor& a, const Tensor& b) = 0;
  virtual Tensor mul(const Tensor& a, float b) = 0;
  virtual Tensor softcap(const Tensor& x, float cap) = 0;
  virtual Tensor select_rows(const Tensor& x, const Step& step) = 0;

 protected:
  // The device to oneself: for run, and for whatever else must not come between a forward's ops.
  virtual std::unique_lock<std::mutex> take_turn() { return std::unique_lock(turn_); }

 private:
  // Logits of a Batch that was checked, in the caller's turn: prepares the Step and calls model.forward, or replays a recording of it.
  virtual Tensor execute(const Model& model, const Batch& batch) = 0;

  std::mutex turn_;
  Observer* observer_ = nullptr;
};

}  // namespace tessera

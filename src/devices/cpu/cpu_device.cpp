#include "cpu/cpu_device.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "cpu/cpu_step.h"
#include "cpu/kv_cache.h"
#include "cpu/linear.h"
#include "cpu/rows.h"
#include "ops/model.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kMaxRows = 512;       // of a Batch: its widest activations stay small beside the weights
constexpr int64_t kMaxLogitRows = 128;  // 134 MB of float32 logits for a vocabulary of 262,144

struct Activations : Storage {
  Activations(std::shared_ptr<std::byte> owner, std::byte* first, int64_t stride)
      : buffer(std::move(owner)), data(first), token_stride(stride) {}
  std::shared_ptr<std::byte> buffer;
  std::byte* data;
  int64_t token_stride;  // in values
};

// A linear's weight, a table to look rows up in, or both: a tied embedding.
struct Weight : Storage {
  Weight(PackedWeight weight, DataType lookup_type, std::optional<DataType> output_type)
      : packed(std::move(weight)), activations(lookup_type), output(output_type) {}
  PackedWeight packed;
  DataType activations;            // what a lookup gives
  std::optional<DataType> output;  // of a linear: a head's logits; nullopt: the input's type
};

struct Vector : Storage {
  std::vector<float> values;
};

struct PagedCache : Storage {
  PagedCache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> counts) : pages(spec, dtype, counts) {}
  KvCache pages;
};

size_t bytes(DataType dtype) { return dtype == DataType::float32 ? 4 : 2; }

// Heads lie side by side in a token's row.
Rows rows(const Tensor& x) {
  const auto& storage = static_cast<Activations&>(x.storage());
  return {storage.data, x.dtype(), x.shape()[2], x.shape()[1], x.shape()[3], storage.token_stride, x.shape()[3]};
}

// A lookup alone needs no blocks: the rows stay as they are, in the nearest type that is not a block format.
DataType packed_type(const WeightSpec& spec) {
  const bool block = spec.options.weights == DataType::bfloat8_b || spec.options.weights == DataType::bfloat4_b;
  return spec.role == Role::embedding && block ? DataType::bfloat16 : spec.options.weights;
}

const Weight& weight_of(const Tensor& x) { return static_cast<const Weight&>(x.storage()); }

}  // namespace

CpuDevice::CpuDevice(const CpuOptions& options) : isa_(options.isa), pool_(options.threads), attention_(pool_, isa_) {
  check(supported(isa_), "cpu: this machine lacks the instructions of '", tessera::cpu::name(isa_), "'");
}

size_t CpuDevice::weight_bytes(const WeightSpec& spec, bool exact) {
  if (spec.role == Role::norm) return static_cast<size_t>(spec.shape[3]) * sizeof(float);
  const DataType type = packed_type(spec);
  const size_t biases = spec.bias == Bias::none ? 0 : static_cast<size_t>(spec.shape[2]) * sizeof(float);
  return PackedWeight::bytes_of(exact && type == DataType::float32 ? DataType::bfloat16 : type, spec.shape[2], spec.shape[3]) + biases;
}

size_t CpuDevice::cache_bytes(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  size_t bytes = 0;
  const std::vector<CacheGroup> groups = cache_groups(spec);
  for (size_t group = 0; group < groups.size(); ++group)
    for (const int64_t layer : groups[group].layers)
      bytes += static_cast<size_t>(pages[group]) * page_bytes(spec.layers[static_cast<size_t>(layer)], dtype);
  return bytes;
}

Limits CpuDevice::limits() const {
  return {.page_tokens = kPageTokens,
          .chunk_alignment = 1,
          .max_chunk = kMaxRows,
          .max_rows = kMaxRows,
          .max_logit_rows = kMaxLogitRows,
          .free_rows = kMaxRows,
          .decode_tokens = kMaxRows};
}

Tensor CpuDevice::execute(const Model& model, const Batch& batch) {
  const CpuStep step(batch);
  Tensor logits = model.forward(step);
  for (const auto& kept : kept_files_)
    if (const auto file = kept.lock()) file->expect_unchanged();
  return logits;
}

Tensor CpuDevice::pack(std::span<const WeightPart> parts, const WeightSpec& spec) {
  if (spec.role == Role::norm) {
    auto vector = std::make_shared<Vector>();
    vector->values.resize(static_cast<size_t>(spec.shape[3]));
    for (size_t i = 0; i < vector->values.size(); ++i)
      vector->values[i] = load_stored(parts.front().type, parts.front().data, static_cast<int64_t>(i)) + spec.offset;
    return Tensor(*this, spec.shape, DataType::float32, std::move(vector));
  }
  const auto turn = take_turn();
  PackedWeight packed = PackedWeight::pack(pool_, isa_, packed_type(spec), parts, spec.shape[3]);
  check(packed.out() == spec.shape[2], "pack: the parts have ", packed.out(), " outputs; the shape is ", spec.shape);
  check(packed.bias().empty() == (spec.bias == Bias::none), "pack: ", packed.bias().size(), " biases of ", spec.name);
  if (spec.keep) {
    spec.keep(packed.data());
    if (!packed.bias().empty()) spec.keep(std::as_bytes(packed.bias()));
  }
  return make_weight(std::move(packed), spec);
}

std::string CpuDevice::packed_layout() const { return message("cpu ", PackedWeight::kLayout); }

Tensor CpuDevice::restore(const KeptPieces& kept, const WeightSpec& spec) {
  const bool biased = spec.bias == Bias::each_output;
  if (kept.pieces.size() != (biased ? 2u : 1u)) return {};
  const std::span<const std::byte> piece = kept.pieces.front(), biases = biased ? kept.pieces.back() : std::span<const std::byte>();
  if (biased && biases.size() != static_cast<size_t>(spec.shape[2]) * sizeof(float)) return {};
  auto packed = PackedWeight::restore(packed_type(spec), spec.shape[2], spec.shape[3], {kept.file, piece.data()}, piece.size(),
                                      {reinterpret_cast<const float*>(biases.data()), biases.size() / sizeof(float)});
  if (!packed) return {};
  const auto turn = take_turn();
  std::erase_if(kept_files_, [](const auto& file) { return file.expired(); });
  if (std::none_of(kept_files_.begin(), kept_files_.end(), [&](const auto& file) { return file.lock() == kept.file; }))
    kept_files_.push_back(kept.file);
  return make_weight(std::move(*packed), spec);
}

Tensor CpuDevice::make_weight(PackedWeight packed, const WeightSpec& spec) {
  const bool head = spec.role == Role::head || spec.role == Role::tied_embedding;
  const DataType stored = packed.dtype();
  return Tensor(
      *this, spec.shape, stored,
      std::make_shared<Weight>(std::move(packed), spec.options.activations, head ? std::optional(spec.options.logits) : std::nullopt));
}

std::shared_ptr<Storage> CpuDevice::make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  return std::make_shared<PagedCache>(spec, dtype, pages);
}

void CpuDevice::copy_page(Storage& cache, size_t group, int32_t from, int32_t to) {
  static_cast<PagedCache&>(cache).pages.copy_page(group, from, to);
}

void CpuDevice::read(const Tensor& x, std::span<float> out) {
  check(static_cast<int64_t>(out.size()) == volume(x.shape()), "read: ", out.size(), " values do not hold a tensor of ", x.shape());
  const auto turn = take_turn();
  const ConstRows from = rows(x);
  convert(pool_, isa_, from, {out.data(), DataType::float32, from.tokens, from.heads, from.width, from.heads * from.width, from.width});
}

std::vector<TokenId> CpuDevice::argmax(const Tensor& logits) {
  std::vector<float> values(static_cast<size_t>(volume(logits.shape())));
  read(logits, values);
  return tessera::argmax(values, logits.shape()[3]);
}

TopK CpuDevice::topk(const Tensor& logits, int64_t k) {
  std::vector<float> values(static_cast<size_t>(volume(logits.shape())));
  read(logits, values);
  return tessera::topk(values, logits.shape()[3], k);
}

Tensor CpuDevice::make(const Shape& shape, DataType dtype) {
  std::shared_ptr<std::byte> buffer = buffers_->take(static_cast<size_t>(volume(shape)) * bytes(dtype));
  std::byte* data = buffer.get();
  return Tensor(*this, shape, dtype, std::make_shared<Activations>(std::move(buffer), data, shape[1] * shape[3]));
}

Tensor CpuDevice::embedding(const Step& step, const Tensor& table) {
  const Weight& weight = weight_of(table);
  const std::span<const TokenId> tokens = step.batch().tokens;
  for (TokenId token : tokens)
    check(token >= 0 && token < table.shape()[2], "embedding: token id ", token, " is outside the vocabulary of ", table.shape()[2]);
  Tensor out = make({1, 1, step.tokens(), table.shape()[3]}, weight.activations);
  const Rows to = rows(out);
  pool_.parallel_for(step.tokens(), [&](int64_t i, int) {
    if (to.type == DataType::float32)
      weight.packed.lookup(tokens[static_cast<size_t>(i)], to.row<float>(i));
    else
      weight.packed.lookup(tokens[static_cast<size_t>(i)], to.row<bfloat16>(i));
  });
  return out;
}

Tensor CpuDevice::linear(const Tensor& x, const Tensor& weight) {
  const Weight& w = weight_of(weight);
  Tensor out = make({1, 1, x.shape()[2], weight.shape()[2]}, w.output.value_or(x.dtype()));
  const Rows from = rows(x), to = rows(out);
  cpu::linear(pool_, isa_, w.packed, from.tokens, {from.data, from.type, from.token_stride}, {to.data, to.type, to.token_stride});
  return out;
}

Tensor CpuDevice::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  Tensor out = make(x.shape(), x.dtype());
  cpu::rms_norm(pool_, isa_, rows(x), static_cast<const Vector&>(weight.storage()).values, epsilon, rows(out));
  return out;
}

Tensor CpuDevice::rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) {
  const CpuStep::RotaryRows& made = static_cast<const CpuStep&>(step).rotary_rows(pool_, rotary, x.dtype());
  Tensor out = make(x.shape(), x.dtype());
  cpu::rotary_embedding(pool_, isa_, rows(x), made.cos.data(), made.sin.data(), rotary.dim / 2, rows(out));
  return out;
}

QkvHeads CpuDevice::nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) {
  const auto& storage = static_cast<Activations&>(qkv.storage());
  const int64_t tokens = qkv.shape()[2], head_dim = qkv.shape()[3] / (num_heads + 2 * num_kv_heads);
  const auto view = [&](int64_t first_head, int64_t heads) {
    std::byte* data = storage.data + static_cast<size_t>(first_head * head_dim) * bytes(qkv.dtype());
    return Tensor(*this, {1, heads, tokens, head_dim}, qkv.dtype(),
                  std::make_shared<Activations>(storage.buffer, data, storage.token_stride));
  };
  return {view(0, num_heads), view(num_heads, num_kv_heads), view(num_heads + num_kv_heads, num_kv_heads)};
}

Tensor CpuDevice::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) {
  Tensor out = make(q.shape(), q.dtype());
  KvCache& cache = static_cast<PagedCache&>(step.batch().slices.front().sequence->cache()).pages;
  const std::vector<CacheSlice>& slices = static_cast<const CpuStep&>(step).cache_slices(cache.layer(params.layer).group);
  cache.append(pool_, params.layer, slices, rows(k), rows(v));
  attention_.attend(cache, slices, rows(q), rows(out), {params.layer, params.scale, params.window});
  return out;
}

Tensor CpuDevice::nlp_concat_heads(const Tensor& x) {
  const auto& storage = static_cast<Activations&>(x.storage());
  return Tensor(*this, {1, 1, x.shape()[2], x.shape()[1] * x.shape()[3]}, x.dtype(),
                std::make_shared<Activations>(storage.buffer, storage.data, storage.token_stride));
}

Tensor CpuDevice::gelu_mul(const Tensor& gate_up) {
  Tensor out = make({1, 1, gate_up.shape()[2], gate_up.shape()[3] / 2}, gate_up.dtype());
  cpu::gelu_mul(pool_, isa_, rows(gate_up), rows(out));
  return out;
}

Tensor CpuDevice::silu_mul(const Tensor& gate_up) {
  Tensor out = make({1, 1, gate_up.shape()[2], gate_up.shape()[3] / 2}, gate_up.dtype());
  cpu::silu_mul(pool_, isa_, rows(gate_up), rows(out));
  return out;
}

Tensor CpuDevice::add(const Tensor& a, const Tensor& b) {
  Tensor out = make(a.shape(), a.dtype());
  cpu::add(pool_, isa_, rows(a), rows(b), rows(out));
  return out;
}

Tensor CpuDevice::mul(const Tensor& a, float b) {
  Tensor out = make(a.shape(), a.dtype());
  cpu::mul(pool_, isa_, rows(a), a.dtype() == DataType::bfloat16 ? round_to_bfloat16(b) : b, rows(out));
  return out;
}

Tensor CpuDevice::softcap(const Tensor& x, float cap) {
  Tensor out = make(x.shape(), x.dtype());
  cpu::softcap(pool_, isa_, rows(x), cap, rows(out));
  return out;
}

Tensor CpuDevice::select_rows(const Tensor& x, const Step& step) {
  const std::vector<int64_t>& wanted = static_cast<const CpuStep&>(step).wanted_rows();
  Tensor out = make({1, 1, static_cast<int64_t>(wanted.size()), x.shape()[3]}, x.dtype());
  if (!wanted.empty()) cpu::select_rows(pool_, isa_, rows(x), wanted, rows(out));
  return out;
}

}  // namespace tessera::cpu

#include "cpu/cpu_device.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/error.h"
#include "core/neighbouring_pairs.h"
#include "cpu/card_attention.h"
#include "cpu/cpu_step.h"
#include "cpu/experts.h"
#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/row_kernels.h"
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
  Weight(PackedWeight weight, DataType lookup_type, std::optional<DataType> output_type, int64_t paired, int64_t dim)
      : packed(std::move(weight)), activations(lookup_type), output(output_type), pair_heads(paired), head_dim(dim) {}
  PackedWeight packed;
  DataType activations;            // what a lookup gives
  std::optional<DataType> output;  // of a linear: a head's logits; nullopt: the input's type
  int64_t pair_heads;              // the first heads of its outputs that have a rotation's pairs as neighbours
  int64_t head_dim;
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

bool is_block_format(DataType type) { return type == DataType::bfloat8_b || type == DataType::bfloat4_b; }

// The same values as rows of `width`: heads, or all of a token's as one.
Rows joined(Rows x, int64_t width) {
  x.heads = x.heads * x.width / width;
  x.width = x.head_stride = width;
  return x;
}

// A lookup alone needs no blocks, and a router's choices are worth its few bytes: these stay as they are, in the nearest type that is not a
// block format.
DataType packed_type(const WeightSpec& spec) {
  const bool stays = spec.role == Role::embedding || spec.role == Role::router;
  return stays && is_block_format(spec.options.weights) ? DataType::bfloat16 : spec.options.weights;
}

// What a card does not take.
void check_twin(Twin twin, const ModelOptions& types) {
  if (twin == Twin::none) return;
  check(types.activations == DataType::bfloat16, "cpu: card mode does not take activations of ", types.activations, "; choose bfloat16");
  check(types.weights != DataType::float32, "cpu: card mode does not take weights of ", types.weights,
        "; choose bfloat16, bfloat8_b or bfloat4_b");
}

// All experts' are one weight, in which each begins a panel.
int64_t expert_outputs(const Shape& shape) { return (shape[2] + kPanel - 1) / kPanel * kPanel; }
int64_t outputs(const WeightSpec& spec) { return spec.shape[1] == 1 ? spec.shape[2] : spec.shape[1] * expert_outputs(spec.shape); }

std::vector<WeightPart> with_whole_panels(std::span<const WeightPart> parts, const Shape& shape, const std::byte* zeros) {
  std::vector<WeightPart> all;
  const size_t each = parts.size() / static_cast<size_t>(shape[1]);
  for (size_t i = 0; i < parts.size(); ++i) {
    all.push_back(parts[i]);
    if (const int64_t rest = expert_outputs(shape) - shape[2]; (i + 1) % each == 0 && rest > 0)
      all.push_back({zeros, StoredType::bfloat16, rest});
  }
  return all;
}

void as_pairs(const ConstRows& from, const Rows& to) {
  for (int64_t token = 0; token < from.tokens; ++token)
    for (int64_t head = 0; head < from.heads; ++head)
      for (int64_t i = 0; i < from.width; ++i)
        to.row<uint16_t>(token, head)[among_pairs(i, from.width)] = from.row<uint16_t>(token, head)[i];
}

void as_halves(const Rows& x) {
  std::vector<uint16_t> pairs(static_cast<size_t>(x.width));
  for (int64_t token = 0; token < x.tokens; ++token)
    for (int64_t head = 0; head < x.heads; ++head) {
      uint16_t* const row = x.row<uint16_t>(token, head);
      std::copy_n(row, x.width, pairs.data());
      for (int64_t i = 0; i < x.width; ++i) row[i] = pairs[static_cast<size_t>(among_pairs(i, x.width))];
    }
}

std::vector<WeightPart> with_neighbouring_pairs(std::span<const WeightPart> parts, const WeightSpec& spec) {
  std::vector<WeightPart> rows;
  for (const WeightPart& part : parts)
    for (int64_t row = 0; row < part.rows; ++row) {
      WeightPart one{part.data + row * spec.shape[3] * bytes_of(part.type), part.type, 1, part.bias};
      if (one.bias.data) one.bias.data += row * bytes_of(one.bias.type);
      rows.push_back(one);
    }
  return tessera::with_neighbouring_pairs(rows, spec.num_heads + spec.num_kv_heads, spec.head_dim);
}

const Weight& weight_of(const Tensor& x) { return static_cast<const Weight&>(x.storage()); }

}  // namespace

Twin parse_twin(const std::optional<std::string>& name) {
  check(!name || *name == "card", "twin: '", name.value_or(""), "' is not known; choose card");
  return name ? Twin::card : Twin::none;
}

CpuDevice::CpuDevice(const CpuOptions& options)
    : isa_(options.isa),
      rows_isa_(options.twin == Twin::card ? Isa::card : options.isa),
      twin_(options.twin),
      pool_(options.threads),
      attention_(pool_, isa_) {
  check(supported(isa_), "cpu: this machine lacks the instructions of '", tessera::cpu::name(isa_), "'");
}

size_t CpuDevice::weight_bytes(const WeightSpec& spec, bool exact) {
  if (spec.role == Role::norm) return static_cast<size_t>(spec.shape[3]) * sizeof(float);
  const DataType type = packed_type(spec);
  const size_t biases = spec.bias == Bias::none ? 0 : static_cast<size_t>(spec.shape[2]) * sizeof(float);
  return PackedWeight::bytes_of(exact && type == DataType::float32 ? DataType::bfloat16 : type, outputs(spec), spec.shape[3]) + biases;
}

size_t CpuDevice::cache_bytes(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  size_t bytes = 0;
  const std::vector<CacheGroup> groups = cache_groups(spec);
  for (size_t group = 0; group < groups.size(); ++group)
    for (const int64_t layer : groups[group].layers)
      bytes += static_cast<size_t>(pages[group]) * cpu::page_bytes(spec.layers[static_cast<size_t>(layer)], dtype);
  return bytes;
}

size_t CpuDevice::working_bytes(DataType activations, int64_t widest, int64_t vocab) {
  return static_cast<size_t>(kMaxRows * widest) * bytes(activations) + static_cast<size_t>(kMaxLogitRows * vocab) * 2 * sizeof(float);
}

Memory CpuDevice::free_memory() {
  const auto turn = take_turn();
  Memory memory = machine_memory();
  memory.bytes -= std::min(memory.bytes, working_bytes(activations_, widest_, vocab_));
  return memory;
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
  struct Running {
    const CpuStep*& step;
    ~Running() { step = nullptr; }
  } running{step_ = &step};
  Tensor logits = model.forward(step);
  for (const auto& kept : kept_files_)
    if (const auto file = kept.lock()) file->expect_unchanged();
  return logits;
}

Tensor CpuDevice::pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep& keep) {
  check_twin(twin_, spec.options);
  if (spec.role == Role::norm) {
    auto vector = std::make_shared<Vector>();
    vector->values.resize(static_cast<size_t>(spec.shape[3]));
    for (size_t i = 0; i < vector->values.size(); ++i)
      vector->values[i] = load_stored(parts.front().type, parts.front().data, static_cast<int64_t>(i)) + spec.offset;
    return Tensor(*this, spec.shape, DataType::float32, std::move(vector));
  }
  const auto turn = take_turn();
  std::vector<WeightPart> arranged(parts.begin(), parts.end());
  std::vector<std::byte> zeros;
  if (pair_heads(spec) > 0) {
    arranged = with_neighbouring_pairs(parts, spec);
  } else if (spec.shape[1] > 1) {
    zeros.resize(static_cast<size_t>(kPanel * spec.shape[3]) * 2);
    arranged = with_whole_panels(parts, spec.shape, zeros.data());
  }
  PackedWeight packed = PackedWeight::pack(pool_, isa_, packed_type(spec), arranged, spec.shape[3]);
  if (pair_heads(spec) > 0)
    for (const WeightPart& part : parts)
      if (part.done) part.done(0, part.rows);
  check(packed.out() == outputs(spec), "pack: the parts have ", packed.out(), " outputs; the shape is ", spec.shape);
  check(packed.bias().empty() == (spec.bias == Bias::none), "pack: ", packed.bias().size(), " biases of ", spec.name);
  if (keep) {
    keep(packed.data());
    if (!packed.bias().empty()) keep(std::as_bytes(packed.bias()));
  }
  return make_weight(std::move(packed), spec);
}

std::string CpuDevice::packed_layout() const { return message("cpu ", PackedWeight::kLayout, twin_ == Twin::card ? ", pairs" : ""); }

int64_t CpuDevice::pair_heads(const WeightSpec& spec) const {
  const bool paired = twin_ == Twin::card && spec.role == Role::qkv && has_neighbouring_pairs(spec.head_dim);
  return paired ? spec.num_heads + spec.num_kv_heads : 0;
}

Tensor CpuDevice::restore(std::span<const std::span<const std::byte>> pieces, const std::shared_ptr<const MappedFile>& file,
                          const WeightSpec& spec) {
  check_twin(twin_, spec.options);
  const bool biased = spec.bias == Bias::each_output;
  if (pieces.size() != (biased ? 2u : 1u)) return {};
  const std::span<const std::byte> piece = pieces.front(), biases = biased ? pieces.back() : std::span<const std::byte>();
  if (biased && biases.size() != static_cast<size_t>(spec.shape[2]) * sizeof(float)) return {};
  auto packed = PackedWeight::restore(packed_type(spec), outputs(spec), spec.shape[3], {file, piece.data()}, piece.size(),
                                      {reinterpret_cast<const float*>(biases.data()), biases.size() / sizeof(float)});
  if (!packed) return {};
  const auto turn = take_turn();
  std::erase_if(kept_files_, [](const auto& kept) { return kept.expired(); });
  if (std::none_of(kept_files_.begin(), kept_files_.end(), [&](const auto& kept) { return kept.lock() == file; }))
    kept_files_.push_back(file);
  return make_weight(std::move(*packed), spec);
}

Tensor CpuDevice::make_weight(PackedWeight packed, const WeightSpec& spec) {
  const bool head = spec.role == Role::head || spec.role == Role::tied_embedding;
  if (spec.options.activations == DataType::float32) activations_ = DataType::float32;
  widest_ = std::max(widest_, alive_values(spec));
  if (head) vocab_ = std::max(vocab_, spec.shape[2]);
  const DataType stored = packed.dtype();
  return Tensor(*this, spec.shape, stored,
                std::make_shared<Weight>(std::move(packed), spec.options.activations,
                                         head ? std::optional(spec.options.logits) : std::nullopt, pair_heads(spec), spec.head_dim));
}

std::shared_ptr<Storage> CpuDevice::make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  check(twin_ == Twin::none || dtype != DataType::float32, "cpu: card mode does not take a cache of float32; choose bfloat16 or bfloat8_b");
  return std::make_shared<PagedCache>(spec, dtype, pages);
}

void CpuDevice::copy_page(Storage& cache, size_t group, int32_t from, int32_t to) {
  static_cast<PagedCache&>(cache).pages.copy_page(group, from, to);
}

std::string CpuDevice::page_layout() const {
  return message("cpu ", KvCache::kLayout, ", ", cpu::name(isa_), twin_ == Twin::card ? ", card mode" : "");
}

size_t CpuDevice::page_bytes(const Storage& cache, size_t group) const {
  return static_cast<const PagedCache&>(cache).pages.page_bytes(group);
}

void CpuDevice::read_page(const Storage& cache, size_t group, int32_t page, int64_t tokens, std::span<std::byte> out) const {
  static_cast<const PagedCache&>(cache).pages.read_page(group, page, tokens, out);
}

void CpuDevice::write_page(Storage& cache, size_t group, int32_t page, std::span<const std::byte> bytes) {
  static_cast<PagedCache&>(cache).pages.write_page(group, page, bytes);
}

void CpuDevice::read(const Tensor& x, std::span<float> out) {
  check(static_cast<int64_t>(out.size()) == volume(x.shape()), "read: ", out.size(), " values do not hold a tensor of ", x.shape());
  const auto turn = take_turn();
  const ConstRows from = rows(x);
  convert(pool_, isa_, from, {out.data(), DataType::float32, from.tokens, from.heads, from.width, from.heads * from.width, from.width});
}

// Rows of logits on several threads: run(i, values) for rows[i].
void CpuDevice::each_row(const Tensor& logits, std::span<const int64_t> rows_of,
                         const std::function<void(size_t, std::span<const float>)>& run) {
  const ConstRows from = rows(logits);
  const auto width = static_cast<size_t>(from.width);
  parallel_for(static_cast<int64_t>(rows_of.size()), [&](int64_t i) {
    const int64_t row = rows_of[static_cast<size_t>(i)];
    if (from.type == DataType::float32) return run(static_cast<size_t>(i), {from.row<float>(row), width});
    std::vector<float> values(width);
    row_kernels(isa_).to_float32(from.row<uint16_t>(row), from.width, values.data());
    run(static_cast<size_t>(i), values);
  });
}

void CpuDevice::read_rows(const Tensor& logits, std::span<const int64_t> rows, std::span<float> out) {
  const auto width = static_cast<size_t>(logits.shape()[3]);
  check(out.size() == static_cast<size_t>(volume(logits.shape())), "read: ", out.size(), " values do not hold logits of ", logits.shape());
  each_row(logits, rows, [&](size_t i, std::span<const float> values) {
    std::copy(values.begin(), values.end(), out.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows[i]) * width));
  });
}

std::vector<TokenId> CpuDevice::argmax(const Tensor& logits, std::span<const int64_t> rows) {
  std::vector<TokenId> ids(rows.size());
  each_row(logits, rows, [&](size_t i, std::span<const float> values) { ids[i] = tessera::argmax(values, logits.shape()[3]).front(); });
  return ids;
}

TopK CpuDevice::topk(const Tensor& logits, std::span<const int64_t> rows, int64_t k) {
  TopK found{.k = std::min(k, logits.shape()[3]), .ids = {}, .values = {}};
  const auto count = static_cast<size_t>(found.k);
  found.ids.resize(rows.size() * count);
  found.values.resize(rows.size() * count);
  each_row(logits, rows, [&](size_t i, std::span<const float> values) {
    const TopK of = tessera::topk(values, logits.shape()[3], k);
    std::copy(of.ids.begin(), of.ids.end(), found.ids.begin() + static_cast<std::ptrdiff_t>(i * count));
    std::copy(of.values.begin(), of.values.end(), found.values.begin() + static_cast<std::ptrdiff_t>(i * count));
  });
  return found;
}

void CpuDevice::parallel_for(int64_t pieces, const std::function<void(int64_t)>& run) {
  const auto turn = take_turn();
  pool_.parallel_for(pieces, [&](int64_t piece, int) { run(piece); });
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
  const bool by_half = twin_ == Twin::card && is_block_format(w.packed.dtype()) && !w.output;
  const Tensor read = by_half ? read_by_half_fidelity(x) : x;
  const Rows from = rows(read), to = rows(out);
  cpu::linear(pool_, isa_, w.packed, from.tokens, {from.data, from.type, from.token_stride}, {to.data, to.type, to.token_stride});
  if (w.pair_heads > 0) as_halves({to.data, to.type, to.tokens, w.pair_heads, w.head_dim, to.token_stride, w.head_dim});
  return out;
}

Tensor CpuDevice::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  Tensor out = make(x.shape(), x.dtype());
  const int64_t width = weight.shape()[3];
  cpu::rms_norm(pool_, rows_isa_, joined(rows(x), width), static_cast<const Vector&>(weight.storage()).values, epsilon,
                joined(rows(out), width));
  return out;
}

Tensor CpuDevice::rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) {
  const RotaryRows& made = static_cast<const CpuStep&>(step).rotary_rows(pool_, rotary, x.dtype());
  Tensor out = make(x.shape(), x.dtype());
  cpu::rotary_embedding(pool_, rows_isa_, rows(x), made.cos.data(), made.sin.data(), rotary.dim / 2, rows(out));
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
  const AttentionOptions options{params.layer, params.scale, params.window, params.softcap};
  if (twin_ == Twin::none) {
    cache.append(pool_, params.layer, slices, rows(k), rows(v));
    attention_.attend(cache, slices, rows(q), rows(out), options);
    return out;
  }
  Tensor queries = q, keys = k, values = v;
  if (cache.type() == DataType::bfloat8_b) {
    if (has_neighbouring_pairs(q.shape()[3])) {  // no score depends on the order
      as_pairs(rows(q), rows(queries = make(q.shape(), q.dtype())));
      as_pairs(rows(k), rows(keys = make(k.shape(), k.dtype())));
    }
    keys = ready_for_blocks(keys);
    values = ready_for_blocks(v);
  }
  cache.append(pool_, params.layer, slices, rows(keys), rows(values));
  card_attention(pool_, cache, slices, rows(queries), rows(out), options);
  return out;
}

// Of the four passes of the card's matrix unit HiFi2's two do not see a bfloat16's lowest bit. Chunks take them with block formats; decodes
// and heads, of few rows, wait for the weights anyway and take all four.
Tensor CpuDevice::read_by_half_fidelity(const Tensor& x) {
  Tensor out = make(x.shape(), x.dtype());
  convert(pool_, isa_, rows(x), rows(out));
  const Rows to = rows(out);
  for (int64_t row = 0; row < to.tokens; ++row)
    if (!step_->decodes(row))
      for (int64_t i = 0; i < to.width; ++i) to.row<uint16_t>(row)[i] &= 0xFFFE;
  return out;
}

// Numbers from which the cache's blocks come out as the card packs them: those in the middle go away from zero, which a little more than
// the middle does. A decode's have lost their lowest bit before, by the same rounding.
Tensor CpuDevice::ready_for_blocks(const Tensor& x) {
  Tensor out = make(x.shape(), DataType::float32);
  const Rows from = rows(x), to = rows(out);
  for (int64_t token = 0; token < to.tokens; ++token)
    for (int64_t head = 0; head < to.heads; ++head)
      for (int64_t i = 0; i < to.width; ++i) {
        uint32_t bits = static_cast<uint32_t>(from.row<uint16_t>(token, head)[i]) << 16;
        if (step_->decodes(token)) bits = (bits + 0x10000u) & 0xFFFE0000u;
        to.row<float>(token, head)[i] = std::bit_cast<float>(bits | 0x4000u);
      }
  return out;
}

Tensor CpuDevice::nlp_concat_heads(const Tensor& x) {
  const auto& storage = static_cast<Activations&>(x.storage());
  return Tensor(*this, {1, 1, x.shape()[2], x.shape()[1] * x.shape()[3]}, x.dtype(),
                std::make_shared<Activations>(storage.buffer, storage.data, storage.token_stride));
}

Tensor CpuDevice::gelu_mul(const Tensor& gate_up) {
  Tensor out = make({1, 1, gate_up.shape()[2], gate_up.shape()[3] / 2}, gate_up.dtype());
  cpu::gelu_mul(pool_, rows_isa_, rows(gate_up), rows(out));
  return out;
}

Tensor CpuDevice::silu_mul(const Tensor& gate_up) {
  Tensor out = make({1, 1, gate_up.shape()[2], gate_up.shape()[3] / 2}, gate_up.dtype());
  cpu::silu_mul(pool_, rows_isa_, rows(gate_up), rows(out));
  return out;
}

Tensor CpuDevice::relu2(const Tensor& x) {
  Tensor out = make(x.shape(), x.dtype());
  cpu::relu2(pool_, rows_isa_, rows(x), rows(out));
  return out;
}

Tensor CpuDevice::experts(const Tensor& x, const Tensor& router_logits, const Tensor& gate_up, const Tensor& down,
                          const RouterParams& params) {
  check(twin_ == Twin::none, "cpu: card mode has no mixtures of experts");
  const std::vector<ExpertRows> routed = route(rows(router_logits), params);
  const int64_t tokens = x.shape()[2], hidden = x.shape()[3], out = gate_up.shape()[2];
  Tensor sum = make(x.shape(), DataType::float32);
  auto* const sums = rows(sum).row<float>(0);
  std::fill_n(sums, tokens * hidden, 0.0f);
  const auto linear = [&](const Tensor& weight, int64_t expert, const Tensor& from, int64_t width) {
    Tensor to = make({1, 1, from.shape()[2], width}, from.dtype());
    const Rows a = rows(from), b = rows(to);
    cpu::linear(pool_, isa_, weight_of(weight).packed.part(expert * expert_outputs(weight.shape()), weight.shape()[2]), a.tokens,
                {a.data, a.type, a.token_stride}, {b.data, b.type, b.token_stride});
    return to;
  };
  for (const ExpertRows& expert : routed) {
    Tensor mine = make({1, 1, static_cast<int64_t>(expert.tokens.size()), hidden}, x.dtype());
    cpu::select_rows(pool_, isa_, rows(x), expert.tokens, rows(mine));
    const Tensor y = linear(down, expert.expert, silu_mul(linear(gate_up, expert.expert, mine, out)), hidden);
    add_weighted(pool_, rows(y), expert, sums);
  }
  Tensor result = make(x.shape(), x.dtype());
  convert(pool_, isa_, rows(sum), rows(result));
  return result;
}

Tensor CpuDevice::add(const Tensor& a, const Tensor& b) {
  Tensor out = make(a.shape(), a.dtype());
  cpu::add(pool_, rows_isa_, rows(a), rows(b), rows(out));
  return out;
}

Tensor CpuDevice::mul(const Tensor& a, float b) {
  Tensor out = make(a.shape(), a.dtype());
  cpu::mul(pool_, rows_isa_, rows(a), b, rows(out));
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

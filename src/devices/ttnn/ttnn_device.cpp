#include "ttnn/ttnn_device.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/neighbouring_pairs.h"
#include "ops/model.h"
#include "ttnn/n150_memory.h"
#include "ttnn/n150_model.h"
#include "ttnn/ttnn_storage.h"

namespace tessera::ttnn {
namespace {

using namespace nb::literals;

// What each output has, q and k permuted where their pairs are to be neighbours.
template <class Of>
std::vector<Of> permuted(const std::vector<Of>& rows, const WeightSpec& spec) {
  check(static_cast<int64_t>(rows.size()) == spec.shape[2], "pack: the parts have ", rows.size(), " outputs; the shape is ", spec.shape);
  if (spec.role != Role::qkv || !has_neighbouring_pairs(spec.head_dim)) return rows;
  return with_neighbouring_pairs(rows, spec.num_heads + spec.num_kv_heads, spec.head_dim);
}

std::vector<StoredRow> stored_rows(std::span<const WeightPart> parts, const WeightSpec& spec) {
  std::vector<StoredRow> rows;
  for (const WeightPart& part : parts)
    for (int64_t o = 0; o < part.rows; ++o) rows.push_back({part.data + o * spec.shape[3] * bytes_of(part.type), part.type});
  return permuted(rows, spec);
}

std::vector<float> stored_biases(std::span<const WeightPart> parts, const WeightSpec& spec) {
  if (spec.bias == Bias::none) return {};
  std::vector<float> biases;
  for (const WeightPart& part : parts)
    for (int64_t o = 0; o < part.rows; ++o) biases.push_back(load_stored(part.bias.type, part.bias.data, o));
  return permuted(biases, spec);
}

// A row of float32 in tiles.
void write_row(const float* values, int64_t width, std::span<std::byte> tiles) {
  auto* to = reinterpret_cast<float*>(tiles.data());
  std::memset(to, 0, tiles.size());
  for (int64_t i = 0; i < width; ++i) to[tiled_index(0, i, round_up(width, kTile))] = values[i];
}

}  // namespace

TtnnDevice::TtnnDevice(std::unique_ptr<Module> ttnn, Tracing tracing, Traces::Tell tell)
    : ttnn_(std::move(ttnn)), pool_(available_threads()) {
  dram_ = ttnn_->object("DRAM_MEMORY_CONFIG");
  tile_ = ttnn_->object("TILE_LAYOUT");
  row_major_ = ttnn_->object("ROW_MAJOR_LAYOUT");
  high_fidelity_ = kernel_config("HiFi4");
  half_fidelity_ = kernel_config("HiFi2");
  // Without a config TTNN takes 32 keys at a time, slower and less exact. Larger chunks than these do not fit a core beside heads of 256.
  sdpa_chunk_ = attention_config(n150::kChunk, n150::kChunk);
  sdpa_decode_ = attention_config(kTile, 256);
  if (tracing == Tracing::on) traces_ = std::make_unique<Traces>(*ttnn_, std::move(tell));
}

TtnnDevice::~TtnnDevice() {
  std::vector<nb::object*> objects{&dram_, &tile_, &row_major_, &high_fidelity_, &half_fidelity_, &sdpa_chunk_, &sdpa_decode_};
  for (auto& [value, tensor] : factors_) objects.push_back(&tensor);
  let_go([&] {
    traces_.reset();
    for (nb::object* object : objects) object->reset();
  });
  static_cast<void>(traces_.release());
  for (nb::object* object : objects) object->release();
}

nb::object TtnnDevice::kernel_config(const char* fidelity) {
  return (*ttnn_)("WormholeComputeKernelConfig", "math_fidelity"_a = ttnn_->object(std::string("MathFidelity.") + fidelity),
                  "math_approx_mode"_a = false, "fp32_dest_acc_en"_a = true, "packer_l1_acc"_a = true);
}

nb::object TtnnDevice::attention_config(int64_t queries, int64_t keys) {
  return (*ttnn_)("SDPAProgramConfig", "compute_with_storage_grid_size"_a = ttnn_->card().attr("compute_with_storage_grid_size")(),
                  "q_chunk_size"_a = queries, "k_chunk_size"_a = keys, "exp_approx_mode"_a = false);
}

Limits TtnnDevice::limits() const { return n150::limits(); }

Memory TtnnDevice::free_memory() {
  const nb::gil_scoped_acquire gil;
  const nb::object view = (*ttnn_)("get_memory_view", ttnn_->card(), ttnn_->object("BufferType.DRAM"));
  const size_t free = nb::cast<size_t>(view.attr("num_banks")) * nb::cast<size_t>(view.attr("total_bytes_free_per_bank"));
  const size_t needed = n150::working_bytes(limits().max_rows, widest_, vocab_) + (traces_ ? n150::recorded_logits_bytes(vocab_) : 0);
  return {free - std::min(free, needed)};
}

Tensor TtnnDevice::make(const Shape& shape, std::vector<nb::object> tensors, std::vector<int64_t> rows, DataType dtype) {
  return Tensor(*this, shape, dtype, std::make_shared<CardStorage>(std::move(tensors), std::move(rows)));
}

// The card to oneself: another's op must not come between those of a recording. Who has it needs the GIL, so that it is waited for without.
std::unique_lock<std::mutex> TtnnDevice::take_turn() {
  std::optional<nb::gil_scoped_release> release;
  if (PyGILState_Check()) release.emplace();
  return Device::take_turn();
}

Tensor TtnnDevice::execute(const Model& model, const Batch& batch) {
  const nb::gil_scoped_acquire gil;
  const auto& cache = static_cast<const PagedCache&>(batch.slices.front().sequence->cache());
  const CardStep step(batch, cache.pages);
  struct Running {
    const CardStep*& step;
    ~Running() { step = nullptr; }
  } running{step_ = &step};
  const auto forward_with = [&](Inputs& inputs) {
    inputs_ = &inputs;
    step.rotary_inputs.clear();  // of a recording that was made of the same step
    return model.forward(step);
  };
  if (!traces_ || !step.decodes() || observer()) {
    Inputs inputs(*ttnn_);
    return forward_with(inputs);
  }
  const Tensor replayed = traces_->run(model, step, forward_with);
  if (!replayed) return replayed;
  // All rows are there; this Batch may want others than the recorded one did.
  const std::vector<int64_t>& rows = step.wanted_rows();
  return make({1, 1, static_cast<int64_t>(rows.size()), replayed.shape()[3]}, storage(replayed).tensors, rows, replayed.dtype());
}

Tensor TtnnDevice::pack(std::span<const WeightPart> parts, const WeightSpec& spec, const Keep& keep) {
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  if (traces_) traces_->drop();
  if (spec.role == Role::norm) {
    auto weight = std::make_shared<Weight>();
    const int64_t width = spec.shape[3];
    const int64_t shape[] = {1, 1, 1, width};
    std::vector<float> values(static_cast<size_t>(width));
    for (int64_t i = 0; i < width; ++i)
      values[static_cast<size_t>(i)] = load_stored(parts.front().type, parts.front().data, i) + spec.offset;
    // float32: one plus a bfloat16 weight, Gemma's, would lose digits.
    weight->tensors.push_back(ttnn_->upload(shape, ttnn_->object("float32"), "TILE_LAYOUT", dram_,
                                            [&](std::span<std::byte> bytes) { write_row(values.data(), width, bytes); }));
    return Tensor(*this, spec.shape, DataType::float32, std::move(weight));
  }
  const std::vector<StoredRow> rows = stored_rows(parts, spec);
  const std::vector<float> biases = stored_biases(parts, spec);
  const int64_t in = spec.shape[3];
  const std::vector<Piece> pieces = pieces_of(spec);
  size_t linears = 0, biased = 0;  // outputs that are packed
  Tensor packed = make_weight(spec, pieces, [&](size_t i, std::span<std::byte> bytes) {
    const auto outputs = static_cast<size_t>(pieces[i].shape[3]);
    if (pieces[i].kind == Piece::table) {
      // A tied table holds the head's rounded values.
      const DataType rounded = spec.role == Role::tied_embedding ? spec.options.weights : DataType::bfloat16;
      pack_table(pool_, rounded, rows, in, {reinterpret_cast<bfloat16*>(bytes.data()), bytes.size() / sizeof(bfloat16)});
    } else if (pieces[i].kind == Piece::biases) {
      write_row(biases.data() + std::exchange(biased, biased + outputs), pieces[i].shape[3], bytes);
    } else {
      pack_tiles(pool_, spec.options.weights, std::span(rows).subspan(std::exchange(linears, linears + outputs), outputs), in, bytes);
    }
    if (keep) keep(bytes);
  });
  for (const WeightPart& part : parts)
    if (part.done) part.done(0, part.rows);
  return packed;
}

std::string TtnnDevice::packed_layout() const { return "n150 tiles 1"; }

Tensor TtnnDevice::restore(std::span<const std::span<const std::byte>> kept, const std::shared_ptr<const MappedFile>& file,
                           const WeightSpec& spec) {
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  if (traces_) traces_->drop();
  const std::vector<Piece> pieces = pieces_of(spec);
  if (!std::equal(pieces.begin(), pieces.end(), kept.begin(), kept.end(),
                  [](const Piece& piece, std::span<const std::byte> bytes) { return piece.bytes() == static_cast<int64_t>(bytes.size()); }))
    return {};
  Tensor restored =
      make_weight(spec, pieces, [&](size_t i, std::span<std::byte> bytes) { std::memcpy(bytes.data(), kept[i].data(), bytes.size()); });
  file->expect_unchanged();
  return restored;
}

// Gate and up apart: two linears are cheaper than cutting one's output in two. A table to look rows up in is kept row by row in bfloat16,
// since TTNN would unpack all of a tiled one at each lookup.
std::vector<TtnnDevice::Piece> TtnnDevice::pieces_of(const WeightSpec& spec) {
  check(spec.options.activations == DataType::bfloat16, "n150: activations of ", spec.options.activations,
        " are not supported; choose bfloat16");
  n150::check_weight(spec);
  tiled_bytes(spec.options.weights, 1, 1);  // refuses a type that the card has no tiles of
  const int64_t out = spec.shape[2], in = spec.shape[3], linears = spec.role == Role::gate_up ? 2 : 1;
  std::vector<Piece> pieces;
  const auto add = [&](int64_t count, const Piece& piece) { pieces.insert(pieces.end(), static_cast<size_t>(count), piece); };
  if (spec.role != Role::embedding) add(linears, {Piece::linear, {1, 1, in, out / linears}, spec.options.weights});
  if (spec.bias == Bias::each_output) add(linears, {Piece::biases, {1, 1, 1, out / linears}, DataType::float32});
  if (spec.role == Role::embedding || spec.role == Role::tied_embedding) add(1, {Piece::table, {1, 1, out, in}, DataType::bfloat16});
  return pieces;
}

int64_t TtnnDevice::Piece::bytes() const {
  if (kind == biases) return kTile * round_up(shape[3], kTile) * static_cast<int64_t>(sizeof(float));
  return kind == table ? shape[2] * shape[3] * 2 : tiled_bytes(dtype, shape[2], shape[3]);
}

Tensor TtnnDevice::make_weight(const WeightSpec& spec, std::span<const Piece> pieces,
                               const std::function<void(size_t, std::span<std::byte>)>& fill) {
  widest_ = std::max(widest_, alive_values(spec));
  if (spec.role == Role::head || spec.role == Role::tied_embedding) vocab_ = std::max(vocab_, spec.shape[2]);
  auto weight = std::make_shared<Weight>();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    weight->linears += piece.kind == Piece::linear;
    weight->biased |= piece.kind == Piece::biases;
    weight->tensors.push_back(ttnn_->upload(piece.shape, ttnn_->dtype(piece.dtype),
                                            piece.kind == Piece::table ? "ROW_MAJOR_LAYOUT" : "TILE_LAYOUT", dram_,
                                            [&](std::span<std::byte> bytes) {
                                              const nb::gil_scoped_release release;
                                              fill(i, bytes);
                                            }));
  }
  if (spec.role == Role::head || spec.role == Role::tied_embedding) weight->output = spec.options.logits;
  weight->block_format = spec.options.weights != DataType::bfloat16;
  return Tensor(*this, spec.shape, spec.options.weights, std::move(weight));
}

// Zeros behind a first number.
nb::object TtnnDevice::upload_integers(std::span<const int64_t> shape, const char* dtype, int32_t first) {
  return ttnn_->upload(shape, ttnn_->object(dtype), "ROW_MAJOR_LAYOUT", dram_, [&](std::span<std::byte> bytes) {
    std::memset(bytes.data(), 0, bytes.size());
    std::memcpy(bytes.data(), &first, sizeof first);
  });
}

nb::object TtnnDevice::integers(const Inputs::Name& name, const CardStep& step, std::vector<int64_t> shape, const char* dtype,
                                const Integers& values) {
  const auto fill = [values](const CardStep& of, std::span<std::byte> bytes) {
    const std::vector<int32_t> numbers = values(of);
    check<std::logic_error>(bytes.size() == numbers.size() * sizeof numbers[0], "n150: ", numbers.size(), " integers do not fill ",
                            bytes.size(), " bytes");
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
  };
  return inputs_->get(name, step, [&] { return Inputs::Input{shape, ttnn_->object(dtype), "ROW_MAJOR_LAYOUT", fill}; });
}

std::shared_ptr<Storage> TtnnDevice::make_cache(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  check(dtype == DataType::bfloat16 || dtype == DataType::bfloat8_b, "n150: a cache of ", dtype,
        " is not supported; choose bfloat16 or bfloat8_b");
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  if (traces_) traces_->drop();
  auto cache = std::make_shared<PagedCache>();
  cache->dtype = dtype;
  cache->groups.resize(spec.layers.size());
  cache->tensors.resize(2 * spec.layers.size());
  const std::vector<CacheGroup> groups = cache_groups(spec);
  for (size_t group = 0; group < groups.size(); ++group) {
    cache->pages.push_back(n150::cache_pages(pages[group]));
    for (const int64_t layer : groups[group].layers) {
      const CacheLayer& sizes = spec.layers[static_cast<size_t>(layer)];
      cache->groups[static_cast<size_t>(layer)] = group;
      for (size_t i = 0; i < 2; ++i) {
        const nb::tuple shape = nb::make_tuple(cache->pages.back(), sizes.num_kv_heads, n150::kPageTokens, sizes.head_dim);
        nb::object empty = (*ttnn_)("empty", shape, ttnn_->dtype(dtype), tile_, ttnn_->card(), dram_);
        // What a masked key adds is zero times its value, unless that is no number: the memory is cleared.
        cache->tensors[static_cast<size_t>(2 * layer) + i] = (*ttnn_)("fill", empty, 0.0, "output_tensor"_a = empty);
      }
    }
  }
  return cache;
}

void TtnnDevice::copy_page(Storage& storage, size_t group, int32_t from, int32_t to) {
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  auto& cache = static_cast<PagedCache&>(storage);
  // The pages' numbers are values on the card, so that all pages take the same programs. slice's kernel reads as many bytes of them as a
  // tile has.
  const int64_t numbers[] = {kTile * kTile / 2}, table[] = {1, 1};
  const nb::object source = upload_integers(numbers, "uint32", from), target = upload_integers(table, "int32", to);
  for (size_t layer = 0; layer < cache.groups.size(); ++layer) {
    if (cache.groups[layer] != group) continue;
    for (size_t i = 2 * layer; i < 2 * layer + 2; ++i) {
      const nb::object page = (*ttnn_)("slice", cache.tensors[i], source, source, "slice_dim"_a = 0, "num_devices"_a = cache.pages[group],
                                       "memory_config"_a = dram_);
      (*ttnn_)("experimental.paged_fill_cache", cache.tensors[i], page, target, "batch_idx"_a = 0);
    }
  }
}

// A token's heads, or its gate and up half, side by side.
void TtnnDevice::read(const Tensor& x, std::span<float> out) {
  check(static_cast<int64_t>(out.size()) == volume(x.shape()), "read: ", out.size(), " values do not hold a tensor of ", x.shape());
  if (out.empty()) return;
  const auto turn = take_turn();
  const nb::gil_scoped_acquire gil;
  const CardStorage& from = storage(x);
  const auto* heads = dynamic_cast<const Heads*>(&from);
  const int64_t tokens = x.shape()[2], count = x.shape()[1], parts = static_cast<int64_t>(from.tensors.size()),
                width = x.shape()[3] / parts;
  const StoredType type = x.dtype() == DataType::float32 ? StoredType::float32 : StoredType::bfloat16;
  for (int64_t part = 0; part < parts; ++part) {
    // All rows: a program that cuts some out would depend on where they are.
    const auto [owner, bytes] =
        ttnn_->download((*ttnn_)("to_layout", from.tensors[static_cast<size_t>(part)], row_major_, "memory_config"_a = dram_));
    const bool by_user = heads != nullptr && heads->by_user;
    const int64_t rows = static_cast<int64_t>(bytes.size() / bytes_of(type)) / (count * width);
    for (int64_t token = 0; token < tokens; ++token)
      for (int64_t head = 0; head < count; ++head) {
        const int64_t line = by_user ? token * count + head : head * rows + from.row(token);
        float* to = out.data() + ((token * count + head) * parts + part) * width;
        for (int64_t i = 0; i < width; ++i) to[i] = load_stored(type, bytes.data(), line * width + i);
      }
  }
}

Tensor TtnnDevice::embedding(const Step& step, const Tensor& table) {
  const auto& card_step = static_cast<const CardStep&>(step);
  const int64_t vocab = table.shape()[2], hidden = table.shape()[3];
  const nb::object ids = integers({"tokens", nullptr}, card_step, {1, card_step.rows()}, "uint32", [vocab](const CardStep& of) {
    std::vector<int32_t> tokens(of.batch().tokens.begin(), of.batch().tokens.end());
    for (const TokenId token : tokens)
      check(token >= 0 && token < vocab, "embedding: token id ", token, " is outside the vocabulary of ", vocab);
    tokens.resize(static_cast<size_t>(of.rows()));
    return tokens;
  });
  return make({1, 1, step.tokens(), hidden}, {looked_up(ids, storage(table).tensors.back(), {1, 1, card_step.rows(), hidden})});
}

nb::object TtnnDevice::looked_up(const nb::object& ids, const nb::object& table, const Shape& shape) {
  return (*ttnn_)("reshape", (*ttnn_)("embedding", ids, table, "layout"_a = tile_, "memory_config"_a = dram_), sizes(shape));
}

Tensor TtnnDevice::linear(const Tensor& x, const Tensor& weight) {
  const auto& w = static_cast<const Weight&>(weight.storage());
  const DataType output = w.output.value_or(DataType::bfloat16);
  std::vector<nb::object> products;
  // Two passes of the multiplier take all digits of block formats, but not the last bit of an activation: for chunks, which wait for the
  // multiplier. Up to 32 rows, those of decodes and heads, wait for memory, and take four.
  const nb::object& config = w.block_format && !step_->decodes() && !w.output ? half_fidelity_ : high_fidelity_;
  for (size_t i = 0; i < w.linears && !is_empty(x); ++i) {
    // linear's own bias is added after sum and bias have lost digits on their way to the adder (to TF32's 10): large biases would cost more
    // than the rounding. Two float32 tensors are added as they are, and rounded once.
    const DataType product = w.biased ? DataType::float32 : output;
    products.push_back((*ttnn_)("linear", tensor(x), w.tensors[i], "memory_config"_a = dram_, "dtype"_a = ttnn_->dtype(product),
                                "compute_kernel_config"_a = config));
    if (w.biased)
      products.back() =
          (*ttnn_)("add", products.back(), w.tensors[w.linears + i], "memory_config"_a = dram_, "dtype"_a = ttnn_->dtype(output));
  }
  return make({1, 1, x.shape()[2], weight.shape()[2]}, std::move(products), storage(x).rows, output);
}

Tensor TtnnDevice::rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  if (is_empty(x)) return x;
  const bool heads = dynamic_cast<Heads*>(&storage(x)) != nullptr;
  if (heads) n150::check_norm_of_heads(x.shape()[3]);
  if (heads && weight.shape()[3] != x.shape()[3])  // over all of a token
    return into_heads(rms_norm(nlp_concat_heads(x), weight, epsilon), x.shape());
  // rms_norm takes no heads that are sharded over the cores by their users.
  const nb::object input = heads && step_->decodes() ? (*ttnn_)("to_memory_config", tensor(x), dram_) : tensor(x);
  nb::object out = (*ttnn_)("rms_norm", input, "epsilon"_a = epsilon, "weight"_a = tensor(weight), "memory_config"_a = dram_,
                            "compute_kernel_config"_a = high_fidelity_);
  if (!heads) return make(x.shape(), {std::move(out)}, storage(x).rows);
  return make_heads(x.shape(), std::move(out));
}

nb::object TtnnDevice::activated_product(const char* activation, const nb::object& a, const nb::object& b) {
  nb::list activations;
  activations.append(ttnn_->object(std::string("UnaryOpType.") + activation));
  return (*ttnn_)("mul", a, b, "input_tensor_a_activations"_a = activations, "memory_config"_a = dram_);
}

Tensor TtnnDevice::gated(const Tensor& gate_up, const char* activation) {
  const std::vector<nb::object>& halves = storage(gate_up).tensors;
  return make({1, 1, gate_up.shape()[2], gate_up.shape()[3] / 2}, {activated_product(activation, halves.at(0), halves.at(1))});
}

Tensor TtnnDevice::gelu_mul(const Tensor& gate_up) { return gated(gate_up, "GELU_TANH"); }

Tensor TtnnDevice::silu_mul(const Tensor& gate_up) { return gated(gate_up, "SILU"); }

Tensor TtnnDevice::relu2(const Tensor& x) { return make(x.shape(), {activated_product("RELU", tensor(x), tensor(x))}); }

Tensor TtnnDevice::experts(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const RouterParams&) {
  fail("n150: mixtures of experts are not supported; choose the cpu");
}

Tensor TtnnDevice::add(const Tensor& a, const Tensor& b) {
  return make(a.shape(), {(*ttnn_)("add", tensor(a), tensor(b), "memory_config"_a = dram_)});
}

Tensor TtnnDevice::mul(const Tensor& a, float b) {
  if (is_empty(a)) return a;
  // TTNN rounds a number to the tensor's type, but not a float32 tensor of one value.
  const bool keeps = a.dtype() == DataType::float32 || b == round_to_bfloat16(b);
  nb::object product = keeps ? (*ttnn_)("multiply", tensor(a), b, "memory_config"_a = dram_)
                             : (*ttnn_)("multiply", tensor(a), factor(b), "memory_config"_a = dram_, "dtype"_a = ttnn_->dtype(a.dtype()));
  return make(a.shape(), {std::move(product)}, storage(a).rows, a.dtype());
}

// On the card for good.
const nb::object& TtnnDevice::factor(float value) {
  const auto [at, is_new] = factors_.try_emplace(value);
  if (is_new) {
    if (traces_) traces_->drop();
    const int64_t shape[] = {1, 1, 1, 1};
    at->second = ttnn_->upload(shape, ttnn_->object("float32"), "TILE_LAYOUT", dram_,
                               [&](std::span<std::byte> bytes) { write_row(&value, 1, bytes); });
  }
  return at->second;
}

Tensor TtnnDevice::softcap(const Tensor& x, float cap) {
  if (is_empty(x)) return x;
  const nb::object small = (*ttnn_)("multiply", tensor(x), 1.0f / cap, "memory_config"_a = dram_);
  const nb::object capped = (*ttnn_)("tanh", small, "memory_config"_a = dram_);
  return make(x.shape(), {(*ttnn_)("multiply", capped, cap, "memory_config"_a = dram_)}, storage(x).rows, x.dtype());
}

Tensor TtnnDevice::select_rows(const Tensor& x, const Step& step) {
  const auto& card_step = static_cast<const CardStep&>(step);
  const auto count = static_cast<int64_t>(card_step.wanted_rows().size());
  const Shape shape{1, 1, count, x.shape()[3]};
  if (count == 0) return make(shape, {});
  if (step_->decodes()) return make(shape, {tensor(x)}, card_step.wanted_rows());
  // Looked up by their numbers, which are values on the card: where they are in a chunk makes no program.
  const nb::object ids = integers({"wanted rows", nullptr}, card_step, {1, padded_count(count)}, "uint32", [](const CardStep& of) {
    std::vector<int32_t> rows(of.wanted_rows().begin(), of.wanted_rows().end());
    rows.resize(static_cast<size_t>(padded_count(static_cast<int64_t>(rows.size()))));
    return rows;
  });
  const nb::object lines = (*ttnn_)("to_layout", tensor(x), row_major_, "memory_config"_a = dram_);
  return make(shape, {looked_up(ids, lines, {1, 1, padded_count(count), shape[3]})});
}

}  // namespace tessera::ttnn

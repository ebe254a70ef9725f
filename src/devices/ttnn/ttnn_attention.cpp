// The part of the n150's device that knows heads, positions and pages.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/neighbouring_pairs.h"
#include "ttnn/n150_model.h"
#include "ttnn/ttnn_device.h"
#include "ttnn/ttnn_storage.h"

namespace tessera::ttnn {
namespace {

// Where the card keeps value i of a head.
int64_t place_of(int64_t i, int64_t head_dim) { return has_neighbouring_pairs(head_dim) ? among_pairs(i, head_dim) : i; }

}  // namespace

using namespace nb::literals;

QkvHeads TtnnDevice::nlp_create_qkv_heads(const Tensor& qkv, int64_t num_heads, int64_t num_kv_heads) {
  const bool decodes = step_->decodes();
  const int64_t tokens = qkv.shape()[2], head_dim = qkv.shape()[3] / (num_heads + 2 * num_kv_heads);
  const nb::object made =
      decodes ? (*ttnn_)("experimental.nlp_create_qkv_heads_decode", tensor(qkv), "num_heads"_a = num_heads,
                         "num_kv_heads"_a = num_kv_heads, "memory_config"_a = ttnn_->object("L1_HEIGHT_SHARDED_MEMORY_CONFIG"))
              : (*ttnn_)("experimental.nlp_create_qkv_heads", tensor(qkv), "num_heads"_a = num_heads, "num_kv_heads"_a = num_kv_heads,
                         "transpose_k_heads"_a = false, "memory_config"_a = dram_);
  const auto heads = [&](size_t i, int64_t count) { return make_heads({1, count, tokens, head_dim}, made[i]); };
  return {heads(0, num_heads), heads(1, num_kv_heads), heads(2, num_kv_heads)};
}

Tensor TtnnDevice::make_heads(const Shape& shape, nb::object tensor) {
  return Tensor(*this, shape, DataType::bfloat16, std::make_shared<Heads>(std::move(tensor), step_->decodes()));
}

// Queries and no keys. A decode's op wants as many of both as it makes shards of.
Tensor TtnnDevice::into_heads(const Tensor& x, const Shape& heads) {
  if (!step_->decodes())
    return make_heads(heads, (*ttnn_)("experimental.nlp_create_qkv_heads", tensor(x), "num_heads"_a = heads[1], "num_kv_heads"_a = 0,
                                      "transpose_k_heads"_a = false, "memory_config"_a = dram_)[0]);
  nb::list thrice;
  for (int i = 0; i < 3; ++i) thrice.append(tensor(x));
  const nb::object qkv = (*ttnn_)("concat", thrice, "dim"_a = 3, "memory_config"_a = dram_);
  return make_heads(heads, (*ttnn_)("experimental.nlp_create_qkv_heads_decode", qkv, "num_heads"_a = heads[1], "num_kv_heads"_a = heads[1],
                                    "memory_config"_a = ttnn_->object("L1_HEIGHT_SHARDED_MEMORY_CONFIG"))[0]);
}

// One user a core, row after row of cores: as nlp_create_qkv_heads_decode places its heads.
nb::object TtnnDevice::height_sharded(int64_t users, int64_t width) {
  const nb::object cores =
      (*ttnn_)("num_cores_to_corerangeset", users, ttnn_->card().attr("compute_with_storage_grid_size")(), "row_wise"_a = true);
  nb::list shard;
  shard.append(kTile);
  shard.append(width);
  const nb::object spec = (*ttnn_)("ShardSpec", cores, shard, ttnn_->object("ShardOrientation.ROW_MAJOR"));
  return (*ttnn_)("MemoryConfig", ttnn_->object("TensorMemoryLayout.HEIGHT_SHARDED"), ttnn_->object("BufferType.L1"), spec);
}

// Of all values of a head; `elsewhere`: of those that do not rotate. In DRAM: what stays in a core's memory is missing there for good.
nb::object TtnnDevice::angles(const char* name, const Rotary& rotary, int64_t head_dim, const CardStep& step,
                              std::vector<float> RotaryRows::* values, float elsewhere) {
  const auto fill = [this, &rotary, head_dim, values, elsewhere](const CardStep& of, std::span<std::byte> bytes) {
    const int64_t width = rotary.dim, half = width / 2;
    const std::vector<float>& from = of.rotary_rows(pool_, rotary).*values;
    auto* tiles = reinterpret_cast<bfloat16*>(bytes.data());
    std::memset(tiles, 0, bytes.size());
    for (int64_t row = 0; row < of.rows(); ++row)
      for (int64_t i = 0; i < head_dim; ++i)
        tiles[tiled_index(of.decodes() ? row * kTile : row, place_of(i, head_dim), head_dim)] =
            to_bfloat16(i < width ? from[static_cast<size_t>(row * half + i % half)] : elsewhere);
  };
  return inputs_->get({name, &rotary}, step, [&] {  // a decode's are a tile's first row for each user
    return Inputs::Input{
        {1, step.decodes() ? step.rows() : 1, step.decodes() ? 1 : step.rows(), head_dim}, ttnn_->object("bfloat16"), "TILE_LAYOUT", fill};
  });
}

// x times this matrix has (-b, a) for each neighbouring pair (a, b); once for each user's core.
nb::object TtnnDevice::rotation(const CardStep& step) {
  const auto fill = [](const CardStep& of, std::span<std::byte> bytes) {
    auto* tiles = reinterpret_cast<bfloat16*>(bytes.data());
    std::memset(tiles, 0, bytes.size());
    for (int64_t square = 0; square < (of.decodes() ? of.rows() : 1); ++square)
      for (int64_t i = 0; i < kTile; i += 2) {
        tiles[tiled_index(square * kTile + i, i + 1, kTile)] = to_bfloat16(1.0f);
        tiles[tiled_index(square * kTile + i + 1, i, kTile)] = to_bfloat16(-1.0f);
      }
  };
  return inputs_->get({"rotation", nullptr}, step, [&] {
    return Inputs::Input{{1, 1, (step.decodes() ? step.rows() : 1) * kTile, kTile}, ttnn_->object("bfloat16"), "TILE_LAYOUT", fill};
  });
}

// The same for a whole head of which the halves of a part are the pairs, and zero for the rest.
nb::object TtnnDevice::partial_rotation(const Rotary& rotary, int64_t head_dim, const CardStep& step) {
  const auto fill = [half = rotary.dim / 2, head_dim](const CardStep&, std::span<std::byte> bytes) {
    auto* tiles = reinterpret_cast<bfloat16*>(bytes.data());
    std::memset(tiles, 0, bytes.size());
    for (int64_t i = 0; i < half; ++i) {
      const int64_t a = place_of(i, head_dim), b = place_of(half + i, head_dim);
      tiles[tiled_index(a, b, head_dim)] = to_bfloat16(1.0f);
      tiles[tiled_index(b, a, head_dim)] = to_bfloat16(-1.0f);
    }
  };
  return inputs_->get({"rotation", &rotary}, step,
                      [&] { return Inputs::Input{{1, 1, head_dim, head_dim}, ttnn_->object("bfloat16"), "TILE_LAYOUT", fill}; });
}

const RotaryInputs& TtnnDevice::rotary_inputs(const Rotary& rotary, int64_t head_dim, const CardStep& step) {
  const auto [at, is_new] = step.rotary_inputs.try_emplace(&rotary);
  if (is_new) {
    const bool whole = rotary.dim == head_dim;
    // A decode's go to the users' cores.
    const auto placed = [&](const nb::object& tensor, int64_t width) {
      return step.decodes() && whole ? (*ttnn_)("to_memory_config", tensor, height_sharded(step.rows(), width)) : tensor;
    };
    at->second = {placed(angles("cos", rotary, head_dim, step, &RotaryRows::cos, 1), head_dim),
                  placed(angles("sin", rotary, head_dim, step, &RotaryRows::sin, 0), head_dim),
                  {}};
    if (!whole)
      at->second.rotation = partial_rotation(rotary, head_dim, step);
    else if (has_neighbouring_pairs(head_dim))
      at->second.rotation = placed(rotation(step), kTile);
  }
  return at->second;
}

Tensor TtnnDevice::rotary_embedding(const Tensor& x, const Rotary& rotary, const Step& step) {
  const int64_t head_dim = x.shape()[3];
  const auto& card_step = static_cast<const CardStep&>(step);
  const RotaryInputs& inputs = rotary_inputs(rotary, head_dim, card_step);
  const bool decodes = card_step.decodes();
  const nb::object memory = decodes ? height_sharded(card_step.rows(), head_dim) : dram_;
  if (rotary.dim != head_dim) {
    // TTNN's rotations take whole heads only. Each output of the product is one value of x, or its negative.
    const nb::object input = decodes ? (*ttnn_)("to_memory_config", tensor(x), dram_) : tensor(x);
    const nb::object turned = (*ttnn_)("linear", input, inputs.rotation, "memory_config"_a = dram_, "dtype"_a = ttnn_->dtype(x.dtype()),
                                       "compute_kernel_config"_a = high_fidelity_);
    const nb::object out = (*ttnn_)("add", (*ttnn_)("multiply", input, inputs.cos, "memory_config"_a = dram_),
                                    (*ttnn_)("multiply", turned, inputs.sin, "memory_config"_a = dram_), "memory_config"_a = dram_);
    return make_heads(x.shape(), decodes ? (*ttnn_)("to_memory_config", out, memory) : out);
  }
  // A norm leaves a decode's heads in DRAM; the rotation wants each user's on its core, where cos and sin are.
  const nb::object input = decodes ? (*ttnn_)("to_memory_config", tensor(x), memory) : tensor(x);
  if (has_neighbouring_pairs(head_dim))
    return make_heads(x.shape(),
                      (*ttnn_)("experimental.rotary_embedding_llama", input, inputs.cos, inputs.sin, inputs.rotation,
                               "is_decode_mode"_a = decodes, "memory_config"_a = memory, "compute_kernel_config"_a = high_fidelity_));
  return make_heads(x.shape(), (*ttnn_)("experimental.rotary_embedding_hf", input, inputs.cos, inputs.sin, "is_decode_mode"_a = decodes,
                                        "memory_config"_a = memory, "compute_kernel_config"_a = high_fidelity_));
}

PageInputs TtnnDevice::page_inputs(size_t group, const CardStep& step) {
  const CardStep::PageNumbers& numbers = step.page_numbers(group);
  const auto users = static_cast<int64_t>(numbers.positions.size()), filled = static_cast<int64_t>(numbers.fill.size());
  const auto input = [&](const char* name, std::vector<int64_t> shape, std::vector<int32_t> CardStep::PageNumbers::* values) {
    return integers({name, &cache_of(step).pages[group]}, step, std::move(shape), "int32",
                    [group, values](const CardStep& of) { return of.page_numbers(group).*values; });
  };
  return {input("table", {users, numbers.width}, &CardStep::PageNumbers::table),
          input("positions", {users}, &CardStep::PageNumbers::positions),
          filled == 0 ? nb::object() : input("fill", {1, filled}, &CardStep::PageNumbers::fill)};
}

Tensor TtnnDevice::attention(const Tensor& q, const Tensor& k, const Tensor& v, const Step& step, const AttentionParams& params) {
  n150::check_attention(params.softcap.has_value());
  const auto& card_step = static_cast<const CardStep&>(step);
  PagedCache& cache = cache_of(step);
  const size_t group = cache.groups.at(static_cast<size_t>(params.layer));
  const PageInputs pages = page_inputs(group, card_step);
  const nb::object& keys = cache.tensors[static_cast<size_t>(2 * params.layer)];
  const nb::object& values = cache.tensors[static_cast<size_t>(2 * params.layer + 1)];
  const nb::object window = params.window ? nb::cast(*params.window) : nb::none();
  if (card_step.decodes()) {
    (*ttnn_)("experimental.paged_update_cache", keys, tensor(k), "update_idxs_tensor"_a = pages.positions, "page_table"_a = pages.table);
    (*ttnn_)("experimental.paged_update_cache", values, tensor(v), "update_idxs_tensor"_a = pages.positions, "page_table"_a = pages.table);
    return make_heads(q.shape(),
                      (*ttnn_)("transformer.paged_scaled_dot_product_attention_decode", tensor(q), keys, values, pages.table,
                               "cur_pos_tensor"_a = pages.positions, "scale"_a = params.scale, "sliding_window_size"_a = window,
                               "program_config"_a = sdpa_decode_, "compute_kernel_config"_a = high_fidelity_, "memory_config"_a = dram_));
  }
  // What is written has the cache's type; a decode's update converts by itself.
  const auto cast = [&](const Tensor& x) {
    return cache.dtype == DataType::bfloat16 ? tensor(x)
                                             : (*ttnn_)("typecast", tensor(x), ttnn_->dtype(cache.dtype), "memory_config"_a = dram_);
  };
  (*ttnn_)("experimental.paged_fill_cache", keys, cast(k), pages.fill, "batch_idx"_a = 0);
  (*ttnn_)("experimental.paged_fill_cache", values, cast(v), pages.fill, "batch_idx"_a = 0);
  return make_heads(q.shape(),
                    (*ttnn_)("transformer.chunked_scaled_dot_product_attention", tensor(q), keys, values, pages.table,
                             "chunk_start_idx_tensor"_a = pages.positions, "scale"_a = params.scale, "sliding_window_size"_a = window,
                             "program_config"_a = sdpa_chunk_, "compute_kernel_config"_a = high_fidelity_, "memory_config"_a = dram_));
}

Tensor TtnnDevice::nlp_concat_heads(const Tensor& x) {
  const Shape shape{1, 1, x.shape()[2], x.shape()[1] * x.shape()[3]};
  if (!step_->decodes()) return make(shape, {(*ttnn_)("experimental.nlp_concat_heads", tensor(x), "memory_config"_a = dram_)});
  // reshape alone would do, but each of its programs keeps a tensor in DRAM.
  const nb::object placed = (*ttnn_)("to_memory_config", tensor(x), height_sharded(step_->rows(), x.shape()[3]));
  const nb::object joined =
      (*ttnn_)("to_memory_config", (*ttnn_)("experimental.nlp_concat_heads_decode", placed, "num_heads"_a = x.shape()[1]), dram_);
  // It has all rows of a tile: the users' are seen of them.
  return make(shape, {(*ttnn_)("reshape", joined, sizes({1, 1, step_->rows(), shape[3]}), sizes({1, 1, kTile, shape[3]}))});
}

}  // namespace tessera::ttnn

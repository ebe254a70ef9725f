#pragma once
// What the n150's device keeps behind its Tensors and caches.
#include <memory>
#include <optional>
#include <vector>

#include "core/batch.h"
#include "ttnn/tiles.h"
#include "ttnn/ttnn_module.h"

namespace tessera::ttnn {

// A linear's weight, in two tensors for a joined gate|up; behind them the biases of each, or a table to look rows up in, if it has them.
struct Weight : CardStorage {
  size_t linears = 0;
  bool biased = false;
  std::optional<DataType> output;  // of a head: the logits' type
  bool block_format = false;
};

// Of nlp_create_qkv_heads: a chunk's are [1, heads, rows, head_dim], a decode's [1, users, heads, head_dim].
struct Heads : CardStorage {
  Heads(nb::object tensor, bool of_decode) : CardStorage(std::vector<nb::object>{std::move(tensor)}), by_user(of_decode) {}
  bool by_user;
};

// Keys and values of each layer, one after the other: [pages, kv_heads, 64, head_dim].
struct PagedCache : CardStorage, std::enable_shared_from_this<PagedCache> {
  std::vector<size_t> groups;  // by layer
  std::vector<int64_t> pages;  // by group; the last page is nobody's
  DataType dtype;
};

inline CardStorage& storage(const Tensor& x) { return static_cast<CardStorage&>(x.storage()); }
inline const nb::object& tensor(const Tensor& x) { return storage(x).tensors.front(); }
inline bool is_empty(const Tensor& x) { return x.shape()[2] == 0; }
inline PagedCache& cache_of(const Step& step) { return static_cast<PagedCache&>(step.batch().slices.front().sequence->cache()); }
inline nb::tuple sizes(const Shape& shape) { return nb::make_tuple(shape[0], shape[1], shape[2], shape[3]); }

}  // namespace tessera::ttnn

#pragma once
// The contents of the cpu device's cache pages. A page holds 32 tokens of one layer; whose they are is known to page tables alone.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/cache_spec.h"
#include "core/sequence.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "cpu/kernels/attention_kernels.h"
#include "cpu/row_view.h"

namespace tessera::cpu {

// New tokens of one sequence: rows [first, first + count) of a batch, from `position` on in the sequence whose pages are `table`'s.
struct CacheSlice {
  int64_t first, count, position;
  const PageTable* table;
};

// Keys and values as 32-bit words. In float32 a word is one number, in bfloat16 the pair that vdpbf16ps multiplies, the first number in its
// low half: two neighbours of head_dim of a key, two neighbouring tokens of a value. Keys are [words of head_dim][32 tokens], so that keys
// are lanes. Values are in columns of 64 numbers of head_dim (the last may be narrower), one behind the other: [32 or 16 words][column].
// In bfloat8_b (core/block_float.h) the same pairs as bytes, then the exponents, one for 16 neighbours along head_dim (the last block may
// be shorter): keys' [blocks][32 tokens], values' in columns as well [16][up to 4 blocks][2 tokens]. Blocks whose values are all below
// 2^-120 are stored as 0.
class KvCache : public Storage {
 public:
  // Address space for `pages` pages of each group of `spec`; memory is taken as pages are written. head_dim is even, at most 1,024.
  // Throws std::invalid_argument for a type that is none of float32, bfloat16 and bfloat8_b, ResourceError when there is no room.
  KvCache(const CacheSpec& spec, DataType type, std::span<const int64_t> pages);
  ~KvCache() override;
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  struct Layer {
    int64_t num_kv_heads, head_dim;
    size_t group;
    int64_t pages;
    size_t part_bytes;  // keys, or values, of one head in one page
    std::byte* base;    // keys, then values: [num_kv_heads][pages][part_bytes], so that a head's pages can be one stream
  };
  DataType type() const { return type_; }
  const Layer& layer(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }
  std::byte* keys(const Layer& layer, int32_t page, int64_t kv_head) const {
    return layer.base + static_cast<size_t>(kv_head * layer.pages + page) * layer.part_bytes;
  }
  std::byte* values(const Layer& layer, int32_t page, int64_t kv_head) const { return keys(layer, page, layer.num_kv_heads + kv_head); }

  // Writes k and v [tokens][num_kv_heads][head_dim] of the slices' tokens, rounded to the cache's type. The tables must have their pages.
  // What a page holds behind its last token is undefined and never read.
  void append(ThreadPool& pool, int64_t layer, std::span<const CacheSlice> slices, const ConstRows& k, const ConstRows& v);

  void copy_page(size_t group, int32_t from, int32_t to);

  // Pages as Device reads and writes them: each layer's of the group in turn, keys of all heads, then values.
  static constexpr int kLayout = 1;  // grows when bytes of a page mean something else
  size_t page_bytes(size_t group) const;
  void read_page(size_t group, int32_t page, int64_t tokens, std::span<std::byte> out) const;
  void write_page(size_t group, int32_t page, std::span<const std::byte> bytes);

 private:
  // Calls copy(layer, part of the cache, part of the bytes) for each head's keys and values.
  template <class Copy>
  void each_part(size_t group, int32_t page, size_t bytes, const Copy& copy) const;

  DataType type_;
  std::vector<Layer> layers_;
  std::byte* memory_ = nullptr;
  size_t bytes_ = 0;
};

// The memory of one page of a layer, keys and values of all its heads.
size_t page_bytes(const CacheLayer& layer, DataType type);

// The page that holds a position. Throws std::invalid_argument unless the table has it and its number is below `pages`.
int32_t page_at(const PageTable& table, int64_t position, int64_t pages);

}  // namespace tessera::cpu

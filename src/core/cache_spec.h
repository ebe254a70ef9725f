#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace tessera {

struct CacheLayer {
  int64_t num_kv_heads, head_dim;
  std::optional<int64_t> window;  // keys that a query sees, its own included; nullopt: all before it
};

// What a model asks of its cache.
struct CacheSpec {
  std::vector<CacheLayer> layers;
};

// Layers with the same window share one page table a sequence.
struct CacheGroup {
  std::optional<int64_t> window;
  std::vector<int64_t> layers;
};

// The groups of `spec`, in the order of their first layers.
std::vector<CacheGroup> cache_groups(const CacheSpec& spec);

}  // namespace tessera

#include "ttnn/n150_memory.h"

#include "ttnn/tiles.h"

namespace tessera::n150 {
namespace {

using ttnn::kTile;

// Pages go to the banks in turn, and every bank gives the room that the fullest one needs.
size_t interleaved(size_t pages, size_t page_bytes) { return (pages + kBanks - 1) / kBanks * kBanks * page_bytes; }

size_t tiles(DataType dtype, int64_t rows, int64_t width, int64_t matrices = 1) {
  const auto tile = static_cast<size_t>(ttnn::tiled_bytes(dtype, kTile, kTile));
  return interleaved(static_cast<size_t>(matrices * ttnn::tiled_bytes(dtype, rows, width)) / tile, tile);
}

size_t in_rows(int64_t rows, int64_t width) { return interleaved(static_cast<size_t>(rows), static_cast<size_t>(width) * 2); }

}  // namespace

Limits limits() {
  return {.page_tokens = kPageTokens,
          .chunk_alignment = kChunk,
          .max_chunk = 512,
          .max_rows = 512,
          .max_logit_rows = kMaxUsers,
          .free_rows = kMaxUsers,
          .decode_tokens = 1};
}

int64_t cache_pages(int64_t pages) { return ttnn::round_up(pages + 1, 8); }

size_t weight_bytes(const WeightSpec& spec) {
  const int64_t rows = spec.shape[2], width = spec.shape[3], linears = spec.role == Role::gate_up ? 2 : 1;
  const size_t biases =
      spec.bias == Bias::none ? 0 : static_cast<size_t>(linears) * 2 * tiles(DataType::bfloat16, 1, rows / linears);  // float32
  switch (spec.role) {
    case Role::norm:
      return 2 * tiles(DataType::bfloat16, rows, width);  // float32
    case Role::embedding:
      return in_rows(rows, width);
    case Role::tied_embedding:
      return in_rows(rows, width) + tiles(spec.options.weights, rows, width);
    default:
      return tiles(spec.options.weights, rows, width) + biases;
  }
}

size_t cache_bytes(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages) {
  const std::vector<CacheGroup> groups = cache_groups(spec);
  size_t bytes = 0;
  for (size_t group = 0; group < groups.size(); ++group)
    for (const int64_t number : groups[group].layers) {
      const CacheLayer& layer = spec.layers[static_cast<size_t>(number)];
      bytes += 2 * tiles(dtype, limits().page_tokens, layer.head_dim, cache_pages(pages[group]) * layer.num_kv_heads);  // keys and values
    }
  return bytes;
}

size_t working_bytes(int64_t rows, int64_t widest, int64_t vocab) {
  return tiles(DataType::bfloat16, rows, widest) + tiles(DataType::bfloat16, kTile, vocab) + in_rows(kTile, vocab) + kPrograms;
}

size_t recorded_logits_bytes(int64_t vocab) { return 2 * tiles(DataType::bfloat16, kTile, vocab); }

}  // namespace tessera::n150

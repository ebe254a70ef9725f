#include "cpu/card_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/card_rounding.h"
#include "cpu/kernels/attention_kernels.h"

namespace tessera::cpu {
namespace {

// As the n150's device asks for them (ttnn_device.cpp), and the heads of a tile of 16 rows.
constexpr int64_t kChunkKeys = 128, kDecodeKeys = 256, kApproximateHeads = 16;

// Schraudolph's: a float's bits are nearly linear in its logarithm. 256 steps an octave, less 11.18 of them to balance the error.
float approximate_exp(float x) {
  constexpr float kStepsAnE = 369.32993f;
  const float steps = std::nearbyint(std::fmax(x, -1000.0f) * kStepsAnE + 32500.818359375f);
  return std::bit_cast<float>(static_cast<uint32_t>(std::fmax(steps, 0.0f)) << 15);
}

// One key head's keys [head_dim][keys] and values [keys][head_dim] at the positions from `first` on.
struct Known {
  Known(const KvCache& cache, int64_t layer_index, const PageTable& table, int64_t head, int64_t begin, int64_t end)
      : first(begin / kPageTokens * kPageTokens), count((end - first + kPageTokens - 1) / kPageTokens * kPageTokens) {
    const KvCache::Layer& layer = cache.layer(layer_index);
    const int64_t dim = layer.head_dim;
    keys.resize(static_cast<size_t>(dim * count));
    values.resize(keys.size());
    std::vector<uint32_t> pairs(static_cast<size_t>(dim * kPageTokens / 2));
    std::vector<float> page(static_cast<size_t>(dim * kPageTokens));
    const auto words = [&](const std::byte* part, auto unpack) {
      if (cache.type() == DataType::bfloat16) return reinterpret_cast<const uint32_t*>(part);
      unpack(reinterpret_cast<const uint8_t*>(part), dim, pairs.data(), nullptr);
      return static_cast<const uint32_t*>(pairs.data());
    };
    for (int64_t at = 0; at < count; at += kPageTokens) {
      const int32_t number = page_at(table, first + at, layer.pages);
      kAttentionPlain.widen(words(cache.keys(layer, number, head), kAttentionPlain.unpack_keys), dim / 2, kPageTokens, page.data());
      for (int64_t d = 0; d < dim; ++d) std::copy_n(page.data() + d * kPageTokens, kPageTokens, keys.data() + d * count + at);
      const uint32_t* const from = words(cache.values(layer, number, head), kAttentionPlain.unpack_values);
      for (int64_t column = 0; column < dim; column += kColumn) {
        const int64_t width = std::min(kColumn, dim - column);
        kAttentionPlain.widen(from + column * kPageTokens / 2, kPageTokens / 2, width, page.data());
        for (int64_t key = 0; key < kPageTokens; ++key)
          std::copy_n(page.data() + key * width, width, values.data() + (at + key) * dim + column);
      }
    }
  }
  int64_t first, count;
  std::vector<float> keys, values;
};

// One query head's softmax over the keys [begin, end).
void attend_row(const Known& known, const uint16_t* q, int64_t dim, int64_t begin, int64_t end, float scale, bool decode, bool approximate,
                uint16_t* out) {
  std::vector<float> scores(static_cast<size_t>(known.count)), sums(static_cast<size_t>(dim)), part(sums.size());
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t i = 0; i < known.count; ++i)
      scores[static_cast<size_t>(i)] += to_float(bfloat16{q[d]}) * known.keys[static_cast<size_t>(d * known.count + i)];
  const int64_t step = decode ? kDecodeKeys : kChunkKeys;
  float total = 0, largest = -1e30f;
  for (int64_t chunk = begin / step * step; chunk < end; chunk += step) {
    const int64_t first = std::max(chunk, begin), last = std::min(chunk + step, end);
    const auto score = [&](int64_t key) {
      const float s = scores[static_cast<size_t>(key - known.first)];
      return decode ? packed(s) : truncated(s, kTf32);
    };
    float top = -std::numeric_limits<float>::infinity(), weights = 0;
    for (int64_t key = first; key < last; ++key) top = std::fmax(top, score(key));
    if (!decode) top = std::fmax(largest, truncated(top, 16));
    std::fill(part.begin(), part.end(), 0.0f);
    for (int64_t key = first; key < last; ++key) {
      const float x = (score(key) - top) * scale, power = approximate ? approximate_exp(x) : std::exp(x);
      const float weight = decode ? packed(power) : truncated(power, kTf32);
      weights += weight;
      const float* const value = known.values.data() + (key - known.first) * dim;
      for (int64_t d = 0; d < dim; ++d) part[static_cast<size_t>(d)] += weight * value[d];
    }
    const float now = std::fmax(largest, top), keep = std::exp((largest - now) * scale), take = std::exp((top - now) * scale);
    largest = now;
    // A decode's chunks are merged at the end, by the cores that had them; a chunk of a prompt adds to the sums so far.
    total = decode ? total * keep + packed(weights) * take : total * packed(keep) + weights;
    for (size_t d = 0; d < sums.size(); ++d)
      sums[d] = decode ? sums[d] * keep + packed(part[d]) * take : packed(packed(part[d]) + packed(sums[d] * packed(keep)));
  }
  const float factor = decode ? packed(1.0f / packed(total)) : 1.0f / total;
  for (size_t d = 0; d < sums.size(); ++d) out[d] = packed_bits(packed(sums[d]) * factor);
}

}  // namespace

void card_attention(ThreadPool& pool, const KvCache& cache, std::span<const CacheSlice> slices, const ConstRows& q, const Rows& out,
                    const AttentionOptions& options) {
  const int64_t kv_heads = cache.layer(options.layer).num_kv_heads, group = q.heads / kv_heads;
  pool.parallel_for(static_cast<int64_t>(slices.size()) * kv_heads, [&](int64_t piece, int) {
    const CacheSlice& slice = slices[static_cast<size_t>(piece / kv_heads)];
    const int64_t kv_head = piece % kv_heads;
    const auto first_key = [&](int64_t position) { return options.window ? std::max<int64_t>(0, position - *options.window + 1) : 0; };
    const Known known(cache, options.layer, *slice.table, kv_head, first_key(slice.position), slice.position + slice.count);
    const bool decode = slice.count == 1;
    for (int64_t i = 0; i < slice.count; ++i)
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
        attend_row(known, q.row<uint16_t>(slice.first + i, head), q.width, first_key(slice.position + i), slice.position + i + 1,
                   options.scale, decode, decode && q.heads <= kApproximateHeads, out.row<uint16_t>(slice.first + i, head));
  });
}

}  // namespace tessera::cpu

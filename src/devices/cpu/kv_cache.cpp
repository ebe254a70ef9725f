#include "cpu/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/block_float.h"
#include "core/error.h"

namespace tessera::cpu {
namespace {

// The numbers that one piece of append writes at least.
constexpr int64_t kPiece = 16384;

// Blocks of one token's bfloat8_b numbers.
int64_t blocks_of(int64_t head_dim) { return (head_dim + kSharedExponent - 1) / kSharedExponent; }

size_t part_bytes(DataType type, int64_t head_dim) {
  const auto numbers = static_cast<size_t>(kPageTokens * head_dim);
  if (type == DataType::float32) return numbers * sizeof(float);
  if (type == DataType::bfloat16) return numbers * sizeof(bfloat16);
  return (numbers + static_cast<size_t>(kPageTokens * blocks_of(head_dim)) + 63) / 64 * 64;
}

// Tokens of one slice that lie in one page.
struct Run {
  int64_t row;     // of the batch
  int64_t count;   // tokens
  int64_t offset;  // of the first one in its page
  int32_t page;
};

std::vector<Run> runs_of(std::span<const CacheSlice> slices, int64_t tokens, int64_t pages) {
  std::vector<Run> runs;
  for (const CacheSlice& slice : slices) {
    check(slice.first >= 0 && slice.count >= 1 && slice.position >= 0 && slice.first + slice.count <= tokens, "cache: slice [", slice.first,
          ", ", slice.first + slice.count, ") at position ", slice.position, " does not lie in a batch of ", tokens, " tokens");
    for (int64_t done = 0; done < slice.count;) {
      const int64_t position = slice.position + done, offset = position % kPageTokens;
      const int64_t count = std::min(slice.count - done, kPageTokens - offset);
      runs.push_back({slice.first + done, count, offset, page_at(*slice.table, position, pages)});
      done += count;
    }
  }
  return runs;
}

void put(float x, float& y) { y = x; }
void put(bfloat16 x, float& y) { y = to_float(x); }
void put(float x, bfloat16& y) { y = to_bfloat16(x); }
void put(bfloat16 x, bfloat16& y) { y = x; }

// Numbers in a word.
template <class To>
constexpr int64_t kPack = 4 / sizeof(To);

template <class From, class To>
void write_keys(const ConstRows& k, int64_t head, const Run& run, To* page) {
  for (int64_t d = 0; d < k.width; d += kPack<To>)
    for (int64_t t = 0; t < run.count; ++t)
      for (int64_t i = 0; i < kPack<To>; ++i)
        put(k.row<From>(run.row + t, head)[d + i], page[d * kPageTokens + (run.offset + t) * kPack<To> + i]);
}

template <class From, class To>
void write_values(const ConstRows& v, int64_t head, const Run& run, To* page) {
  for (int64_t t = 0; t < run.count; ++t) {
    const From* row = v.row<From>(run.row + t, head);
    const int64_t token = run.offset + t;
    for (int64_t column = 0; column < v.width; column += kColumn) {
      const int64_t width = std::min(kColumn, v.width - column);
      To* to = page + column * kPageTokens + token / kPack<To> * kPack<To> * width + token % kPack<To>;
      for (int64_t d = 0; d < width; ++d) put(row[column + d], to[d * kPack<To>]);
    }
  }
}

template <class From, class To>
void write(const ConstRows& k, const ConstRows& v, int64_t head, const Run& run, std::byte* keys, std::byte* values) {
  write_keys<From>(k, head, run, reinterpret_cast<To*>(keys));
  write_values<From>(v, head, run, reinterpret_cast<To*>(values));
}

// The smallest exponent whose block has no denormal value; blocks below it become 0.
constexpr uint8_t kLeastExponent = 7;

// Calls place(block, exponent) and place_code(number, code) for one token's numbers of one head.
template <class From, class Place, class PlaceCode>
void encode_row(const From* row, int64_t head_dim, Place place, PlaceCode place_code) {
  for (int64_t block = 0; block < blocks_of(head_dim); ++block) {
    const int64_t first = block * kSharedExponent, count = std::min(kSharedExponent, head_dim - first);
    std::array<float, kSharedExponent> values{};
    std::array<uint8_t, kSharedExponent> codes;
    for (int64_t i = 0; i < count; ++i) put(row[first + i], values[static_cast<size_t>(i)]);
    uint8_t exponent = encode_block(DataType::bfloat8_b, values, codes);
    if (exponent < kLeastExponent) codes.fill(exponent = 0);
    place(block, exponent);
    for (int64_t i = 0; i < count; ++i) place_code(first + i, codes[static_cast<size_t>(i)]);
  }
}

// Where a page has the token's number i of n, in pairs of tokens and columns of `column` numbers.
int64_t in_columns(int64_t token, int64_t i, int64_t n, int64_t column) {
  const int64_t first = i / column * column, width = std::min(column, n - first);
  return first * kPageTokens + (token / 2 * width + i - first) * 2 + token % 2;
}

template <class From>
void write_blocks(const ConstRows& k, const ConstRows& v, int64_t head, const Run& run, std::byte* keys, std::byte* values) {
  auto* k_codes = reinterpret_cast<uint8_t*>(keys);
  auto* v_codes = reinterpret_cast<uint8_t*>(values);
  uint8_t* k_exponents = k_codes + kPageTokens * k.width;
  uint8_t* v_exponents = v_codes + kPageTokens * v.width;
  for (int64_t t = 0; t < run.count; ++t) {
    const int64_t token = run.offset + t;
    encode_row(
        k.row<From>(run.row + t, head), k.width, [&](int64_t block, uint8_t e) { k_exponents[block * kPageTokens + token] = e; },
        [&](int64_t d, uint8_t code) { k_codes[(d / 2 * kPageTokens + token) * 2 + d % 2] = code; });
    encode_row(
        v.row<From>(run.row + t, head), v.width,
        [&](int64_t block, uint8_t e) { v_exponents[in_columns(token, block, blocks_of(v.width), kColumn / kSharedExponent)] = e; },
        [&](int64_t d, uint8_t code) { v_codes[in_columns(token, d, v.width, kColumn)] = code; });
  }
}

using Write = void (*)(const ConstRows& k, const ConstRows& v, int64_t head, const Run& run, std::byte* keys, std::byte* values);

Write writer(DataType from, DataType to) {
  if (to == DataType::bfloat8_b) return from == DataType::float32 ? write_blocks<float> : write_blocks<bfloat16>;
  if (from == DataType::float32) return to == DataType::float32 ? write<float, float> : write<float, bfloat16>;
  return to == DataType::float32 ? write<bfloat16, float> : write<bfloat16, bfloat16>;
}

}  // namespace

size_t page_bytes(const CacheLayer& layer, DataType type) {
  return 2 * part_bytes(type, layer.head_dim) * static_cast<size_t>(layer.num_kv_heads);
}

int32_t page_at(const PageTable& table, int64_t position, int64_t pages) {
  const int64_t index = position / kPageTokens - table.first;
  check(index >= 0 && index < static_cast<int64_t>(table.pages.size()), "cache: position ", position,
        " has no page in a table of positions ", table.first * kPageTokens, "..",
        (table.first + static_cast<int64_t>(table.pages.size())) * kPageTokens - 1);
  const int32_t page = table.pages[static_cast<size_t>(index)];
  check(page >= 0 && page < pages, "cache: page ", page, " is outside 0..", pages - 1);
  return page;
}

KvCache::KvCache(const CacheSpec& spec, DataType type, std::span<const int64_t> pages) : type_(type) {
  check(type == DataType::float32 || type == DataType::bfloat16 || type == DataType::bfloat8_b, "cache: ", type,
        " is not supported; choose float32, bfloat16 or bfloat8_b");
  const std::vector<CacheGroup> groups = cache_groups(spec);
  check(pages.size() == groups.size(), "cache: ", pages.size(), " page counts for ", groups.size(), " groups of layers");
  layers_.resize(spec.layers.size());
  for (size_t group = 0; group < groups.size(); ++group)
    for (int64_t index : groups[group].layers) {
      const CacheLayer& from = spec.layers[static_cast<size_t>(index)];
      check(from.num_kv_heads >= 1 && from.head_dim >= 2 && from.head_dim % 2 == 0 && from.head_dim <= 1024, "cache: ", from.num_kv_heads,
            " heads of ", from.head_dim, " are not supported; head_dim must be even and at most 1024");
      check(pages[group] >= 0, "cache: ", pages[group], " pages");
      Layer& layer = layers_[static_cast<size_t>(index)];
      layer = {from.num_kv_heads, from.head_dim, group, pages[group], part_bytes(type, from.head_dim), nullptr};
      size_t bytes = 0;
      check<ResourceError>(!__builtin_mul_overflow(2 * layer.part_bytes, from.num_kv_heads, &bytes) &&
                               !__builtin_mul_overflow(bytes, pages[group], &bytes) && !__builtin_add_overflow(bytes_, bytes, &bytes_),
                           "cache: ", pages[group], " pages of ", from.num_kv_heads,
                           " heads exceed the address space; ask for a shorter context");
    }
  if (bytes_ == 0) return;
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check<ResourceError>(memory != MAP_FAILED, "cache: no room for ", bytes_, " bytes; ask for a shorter context or fewer sequences");
  memory_ = static_cast<std::byte*>(memory);
  std::byte* next = memory_;
  for (Layer& layer : layers_) {
    layer.base = next;
    next += 2 * layer.part_bytes * static_cast<size_t>(layer.num_kv_heads * layer.pages);
  }
}

KvCache::~KvCache() {
  if (memory_) munmap(memory_, bytes_);
}

void KvCache::append(ThreadPool& pool, int64_t layer_index, std::span<const CacheSlice> slices, const ConstRows& k, const ConstRows& v) {
  const Layer& layer = this->layer(layer_index);
  for (const ConstRows* rows : {&k, &v})
    check(rows->heads == layer.num_kv_heads && rows->width == layer.head_dim && rows->tokens == k.tokens && rows->type == k.type &&
              (k.type == DataType::float32 || k.type == DataType::bfloat16),
          "cache: keys or values ", rows->type, " [", rows->tokens, ", ", rows->heads, ", ", rows->width, "] do not fit layer ",
          layer_index, "'s [", k.tokens, ", ", layer.num_kv_heads, ", ", layer.head_dim, "]");
  const std::vector<Run> runs = runs_of(slices, k.tokens, layer.pages);
  const auto items = static_cast<int64_t>(runs.size()) * layer.num_kv_heads;
  const int64_t per_piece = std::max<int64_t>(1, kPiece * items / std::max<int64_t>(1, 2 * k.tokens * k.heads * k.width));
  const Write write = writer(k.type, type_);
  pool.parallel_for((items + per_piece - 1) / per_piece, [&](int64_t piece, int) {
    for (int64_t item = piece * per_piece; item < std::min(items, (piece + 1) * per_piece); ++item) {
      const Run& run = runs[static_cast<size_t>(item / layer.num_kv_heads)];
      const int64_t head = item % layer.num_kv_heads;
      write(k, v, head, run, keys(layer, run.page, head), values(layer, run.page, head));
    }
  });
}

void KvCache::copy_page(size_t group, int32_t from, int32_t to) {
  for (const Layer& layer : layers_) {
    if (layer.group != group) continue;
    check(from >= 0 && from < layer.pages && to >= 0 && to < layer.pages, "cache: pages ", from, " and ", to, " are not both in 0..",
          layer.pages - 1);
    for (int64_t head = 0; head < layer.num_kv_heads; ++head) {
      std::memmove(keys(layer, to, head), keys(layer, from, head), layer.part_bytes);
      std::memmove(values(layer, to, head), values(layer, from, head), layer.part_bytes);
    }
  }
}

size_t KvCache::page_bytes(size_t group) const {
  size_t bytes = 0;
  for (const Layer& layer : layers_)
    if (layer.group == group) bytes += 2 * static_cast<size_t>(layer.num_kv_heads) * layer.part_bytes;
  return bytes;
}

template <class Copy>
void KvCache::each_part(size_t group, int32_t page, size_t bytes, const Copy& copy) const {
  check(bytes == page_bytes(group), "cache: ", bytes, " bytes are no page of ", page_bytes(group));
  size_t done = 0;
  for (const Layer& layer : layers_) {
    if (layer.group != group) continue;
    check(page >= 0 && page < layer.pages, "cache: page ", page, " is outside 0..", layer.pages - 1);
    for (int64_t part = 0; part < 2 * layer.num_kv_heads; ++part, done += layer.part_bytes) copy(layer, keys(layer, page, part), done);
  }
}

void KvCache::read_page(size_t group, int32_t page, int64_t tokens, std::span<std::byte> out) const {
  check(tokens >= 1 && tokens <= kPageTokens, "cache: ", tokens, " tokens of a page of ", kPageTokens);
  each_part(group, page, out.size(),
            [&](const Layer& layer, const std::byte* part, size_t at) { std::memcpy(out.data() + at, part, layer.part_bytes); });
  if (tokens == kPageTokens) return;
  const Write write = writer(DataType::float32, type_);
  const Run behind{.row = 0, .count = kPageTokens - tokens, .offset = tokens, .page = page};
  size_t at = 0;
  for (const Layer& layer : layers_) {
    if (layer.group != group) continue;
    const std::vector<float> zeros(static_cast<size_t>(behind.count * layer.head_dim));
    const ConstRows rows = dense_rows(zeros.data(), DataType::float32, behind.count, layer.head_dim);
    const size_t values = static_cast<size_t>(layer.num_kv_heads) * layer.part_bytes;
    for (int64_t head = 0; head < layer.num_kv_heads; ++head, at += layer.part_bytes)
      write(rows, rows, 0, behind, out.data() + at, out.data() + at + values);
    at += values;
  }
}

void KvCache::write_page(size_t group, int32_t page, std::span<const std::byte> bytes) {
  each_part(group, page, bytes.size(),
            [&](const Layer& layer, std::byte* part, size_t at) { std::memcpy(part, bytes.data() + at, layer.part_bytes); });
}

}  // namespace tessera::cpu

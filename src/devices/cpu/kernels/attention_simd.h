#pragma once
// The attention kernels in terms of simd_avx2.h or simd_avx512.h, which the including file names first.
#include "cpu/kernels/attention_kernels.h"
#include "cpu/kernels/simd_math.h"

namespace tessera::cpu {
namespace {

constexpr int kTokens = static_cast<int>(kPageTokens);
constexpr int kKeyVecs = 2;                       // vectors of keys in registers
constexpr int kScoreRows = kLanes == 16 ? 8 : 4;  // query rows in registers
constexpr int kWide = kLanes == 16 ? 4 : 2;       // vectors of head_dim in registers
constexpr float kUnseen = -1e30f;                 // a score whose power is 0

// Numbers in a word of keys and values (kPack) and of q and p (kRow); what row() reads of the latter meets one word of the former.
struct Float32 {
  static constexpr int kPack = 1, kRow = 1;
  static Vec row(const uint32_t* words) { return set_word(*words); }
  static Vec dot(Vec sum, Vec a, Vec x) { return fma(a, x, sum); }
  static void store_p(uint32_t* words, Vec p) { store(reinterpret_cast<float*>(words), p, AllLanes{}); }
};

struct Bfloat16 {
  static constexpr int kPack = 2, kRow = kRowPack;
  static auto row(const uint32_t* words) { return row_pair(words); }
  static Vec dot(Vec sum, Vec pairs, auto x) { return dot_pairs(sum, pairs, x); }
  static void store_p(uint32_t* words, Vec p) { store_row(words, p); }
};

// Fetches memory ahead, a line a call; nothing if there is none.
class Fetch {
 public:
  Fetch() = default;
  explicit Fetch(const void* from) : at_(static_cast<const char*>(from)), step_(from ? 64 : 0) {}
  void line() {
    _mm_prefetch(at_, _MM_HINT_T1);
    at_ += step_;
  }

 private:
  const char* at_ = nullptr;
  int step_ = 0;
};

// R rows against P pages from `page` on.
template <class Path, int R, int P>
void score_tile(const KeyRange& range, const PageGroup& keys, int64_t row, int64_t page) {
  constexpr int kStep = Path::kPack / Path::kRow;
  const int64_t words = range.head_dim / Path::kPack;
  const uint32_t* q = range.q + row * words * kStep;
  Fetch fetch[P];
  for (int p = 0; p < P; ++p) fetch[p] = Fetch(row == 0 ? keys.next[page + p] : nullptr);
  for (int first = 0; first < kTokens; first += kKeyVecs * kLanes) {
    Vec acc[R][P][kKeyVecs];
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < kKeyVecs; ++v) acc[r][p][v] = set(0);
    for (int64_t d = 0; d < words; ++d) {
      Vec k[P][kKeyVecs];
      for (int p = 0; p < P; ++p) {
        for (int v = 0; v < kKeyVecs; ++v) k[p][v] = load_words(keys.words[page + p] + d * kTokens + first + v * kLanes, AllLanes{});
        for (int line = 0; line < kKeyVecs * kLanes / 16; ++line) fetch[p].line();
      }
      for (int r = 0; r < R; ++r) {
        const auto x = Path::row(q + (r * words + d) * kStep);
        for (int p = 0; p < P; ++p)
          for (int v = 0; v < kKeyVecs; ++v) acc[r][p][v] = Path::dot(acc[r][p][v], k[p][v], x);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int p = 0; p < P; ++p)
        for (int v = 0; v < kKeyVecs; ++v)
          store(range.scores + (row + r) * kRangeTokens + (keys.first + page + p) * kTokens + first + v * kLanes, acc[r][p][v], AllLanes{});
  }
}

// Few rows take several pages at once: a sum alone would wait for each of its products.
template <class Path, int R>
void score_rows(const KeyRange& range, const PageGroup& keys, int64_t row) {
  constexpr int P = R >= 4 ? 1 : 4 / R;
  int64_t page = 0;
  for (; page + P <= keys.count; page += P) score_tile<Path, R, P>(range, keys, row, page);
  for (; page < keys.count; ++page) score_tile<Path, R, 1>(range, keys, row, page);
}

// fn<R>(row) for the rows in tiles of kMost, then 4, 2 and 1.
template <int kMost, class Fn>
void for_tiles(int64_t rows, Fn fn) {
  int64_t row = 0;
  for (; row + kMost <= rows; row += kMost) fn.template operator()<kMost>(row);
  for (; row + 4 <= rows; row += 4) fn.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) fn.template operator()<2>(row);
  for (; row < rows; ++row) fn.template operator()<1>(row);
}

template <class Path>
void scores(const KeyRange& range, const PageGroup& keys) {
  for_tiles<kScoreRows>(range.rows, [&]<int R>(int64_t row) { score_rows<Path, R>(range, keys, row); });
}

template <class Path>
void softmax(const KeyRange& range) {
  const Vec scale = set(range.scale);
  for (int64_t row = 0; row < range.rows; ++row) {
    const float* score = range.scores + row * kRangeTokens;
    uint32_t* p = range.p + row * kRangeTokens / Path::kRow;
    const int begin = range.begin[row], end = range.end[row];
    const auto seen = [&](int key) { return keep_lanes(load(score + key, AllLanes{}), begin - key, end - key, set(kUnseen)); };
    const int first = begin / kLanes * kLanes;
    Vec best = set(kUnseen);
    for (int key = first; key < end; key += kLanes) best = max(best, seen(key));
    const float top = max_of(best) * range.scale;
    const Vec minus_top = set(-top);
    Vec total = set(0);
    int key = static_cast<int>(range.first_page * kTokens);
    for (; key < first; key += kLanes) Path::store_p(p + key / Path::kRow, set(0));
    for (; key < end; key += kLanes) {
      const Vec power = exp2(fma(seen(key), scale, minus_top));
      Path::store_p(p + key / Path::kRow, power);
      total = add(total, power);
    }
    for (; key < static_cast<int>(range.last_page * kTokens); key += kLanes) Path::store_p(p + key / Path::kRow, set(0));
    range.max[row] = top;
    range.sum[row] = sum(total);
  }
}

// Which halves of a word of values (or all of it) belong to keys in [begin, end).
template <class Path>
uint32_t seen_word(int key, int begin, int end) {
  if (Path::kPack == 1) return key >= begin && key < end ? ~0u : 0u;
  return (key >= begin && key < end ? 0xFFFFu : 0u) | (key + 1 >= begin && key + 1 < end ? 0xFFFF0000u : 0u);
}

// What the rows of a tile may take from the words of a page of values: all, or the keys that each row sees.
struct All {
  static Vec of(Vec value, int, int) { return value; }
};
template <class Path, int R>
struct Some {
  bool all;
  uint32_t words[R][kTokens / Path::kPack];
  Vec of(Vec value, int row, int word) const { return bits_of_both(value, set_word(words[row][word])); }
};

template <class Path, int R>
Some<Path, R> seen_of_page(const KeyRange& range, int64_t row, int64_t page) {
  const auto first = static_cast<int>(page * kTokens);
  Some<Path, R> seen{true, {}};
  for (int64_t r = row; r < row + R; ++r) seen.all &= range.begin[r] <= first && range.end[r] >= first + kTokens;
  if (seen.all) return seen;
  for (int r = 0; r < R; ++r)
    for (int w = 0; w < kTokens / Path::kPack; ++w)
      seen.words[r][w] = seen_word<Path>(first + w * Path::kPack, range.begin[row + r], range.end[row + r]);
  return seen;
}

// R rows, V vectors from dimension `dim` on; a column's words of one token are `width` apart from the next's.
template <class Path, int R, int V, class Lanes>
void accumulate_tile(const KeyRange& range, const PageGroup& values, const Some<Path, R>* seen, int64_t row, int64_t dim, Lanes lanes) {
  constexpr int kWords = kTokens / Path::kPack;
  const int64_t column = dim / kColumn * kColumn, width = range.head_dim - column < kColumn ? range.head_dim - column : kColumn;
  const int64_t offset = column * kWords + dim - column;
  float* acc = range.acc + row * range.acc_stride + dim;
  Vec sums[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sums[r][v] = load(acc + r * range.acc_stride + v * kLanes, AllLanes{});
  for (int64_t page = 0; page < values.count; ++page) {
    const uint32_t* words = values.words[page] + offset;
    const uint32_t* p = range.p + (row * kRangeTokens + (values.first + page) * kTokens) / Path::kRow;
    const void* next = row == 0 ? values.next[page] : nullptr;
    Fetch fetch(next ? static_cast<const uint32_t*>(next) + column * kWords + (dim - column) * kWords : nullptr);
    const auto take = [&](const auto& some) {
      for (int w = 0; w < kWords; ++w) {
        Vec value[V];
        for (int v = 0; v < V; ++v) value[v] = load_words(words + w * width + v * kLanes, lanes);
        for (int line = 0; line < V * kLanes / 16; ++line) fetch.line();
        for (int r = 0; r < R; ++r) {
          const auto x = Path::row(p + (r * kRangeTokens + w * Path::kPack) / Path::kRow);
          for (int v = 0; v < V; ++v) sums[r][v] = Path::dot(sums[r][v], some.of(value[v], r, w), x);
        }
      }
    };
    if (seen[page].all)
      take(All{});
    else
      take(seen[page]);
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store(acc + r * range.acc_stride + v * kLanes, sums[r][v], AllLanes{});
}

template <class Path, int R>
void accumulate_rows(const KeyRange& range, const PageGroup& values, int64_t row) {
  Some<Path, R> seen[kGroupPages];
  for (int64_t page = 0; page < values.count; ++page) seen[page] = seen_of_page<Path, R>(range, row, values.first + page);
  int64_t dim = 0;
  const auto tiles = [&]<int V>() {
    for (; dim % kColumn + V * kLanes <= kColumn && dim + V * kLanes <= range.head_dim; dim += V * kLanes)
      accumulate_tile<Path, R, V>(range, values, seen, row, dim, AllLanes{});
  };
  tiles.template operator()<kWide>();
  tiles.template operator()<2>();
  tiles.template operator()<1>();
  if (dim < range.head_dim) accumulate_tile<Path, R, 1>(range, values, seen, row, dim, static_cast<int>(range.head_dim - dim));
}

template <class Path>
void accumulate(const KeyRange& range, const PageGroup& values) {
  for_tiles<4>(range.rows, [&]<int R>(int64_t row) { accumulate_rows<Path, R>(range, values, row); });
}

void merge(float* max_so_far, float* sum_so_far, float* acc, float next_max, float next_sum, const float* next_acc, int64_t n) {
  const Vec top = max(set(*max_so_far), set(next_max));
  const Vec old_factor = exp2(sub(set(*max_so_far), top)), next_factor = exp2(sub(set(next_max), top));
  store(max_so_far, top, 1);
  store(sum_so_far, fma(set(*sum_so_far), old_factor, mul(set(next_sum), next_factor)), 1);
  for_lanes(n, [&](int64_t i, auto lanes) {
    // + 0: whether a sum that vanished is 0 or -0 depends on the unseen pages that were worked on.
    const Vec next = fma(load(next_acc + i, lanes), next_factor, set(0));
    store(acc + i, fma(load(acc + i, lanes), old_factor, next), lanes);
  });
}

template <class T>
void finish(const float* acc, float sum_of_p, int64_t n, T* out) {
  const Vec factor = div(set(1), set(sum_of_p));
  for_lanes(n, [&](int64_t i, auto lanes) { store(out + i, mul(load(acc + i, lanes), factor), lanes); });
}

// What a code's exponent lacks to 255, at a bfloat16's place in the low half of a word.
inline uint32_t excess(uint8_t exponent) { return (255u - exponent) << 7; }

void unpack_keys(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void* next) {
  const uint8_t* exponents = page + kPageTokens * head_dim;
  Fetch fetch(next);
  alignas(64) uint32_t of_keys[kTokens];
  for (int64_t d = 0; d < head_dim / 2; ++d) {
    if (d % 8 == 0)
      for (int key = 0; key < kTokens; ++key) of_keys[key] = excess(exponents[d / 8 * kTokens + key]) * 0x10001u;
    unpack_line(page + d * 2 * kTokens, of_keys, pairs + d * kTokens);
    fetch.line();
  }
}

// Up to 32 numbers of two tokens, and their exponents.
void unpack_part(const uint8_t* codes, const uint8_t* exponents, int64_t n, uint32_t* pairs) {
  alignas(64) uint32_t of_numbers[32];
  for (int block = 0; block < 2; ++block, exponents += n > 16 ? 2 : 0) {
    const uint32_t both = excess(exponents[0]) | excess(exponents[1]) << 16;
    for (int i = 0; i < 16; ++i) of_numbers[block * 16 + i] = both;
  }
  if (n == 32) return unpack_line(codes, of_numbers, pairs);
  uint8_t line[64] = {};
  uint32_t words[32];
  for (int64_t i = 0; i < 2 * n; ++i) line[i] = codes[i];
  unpack_line(line, of_numbers, words);
  for (int64_t i = 0; i < n; ++i) pairs[i] = words[i];
}

void unpack_values(const uint8_t* page, int64_t head_dim, uint32_t* pairs, const void* next) {
  const uint8_t* exponents = page + kPageTokens * head_dim;
  Fetch fetch(next);
  for (int64_t column = 0; column < head_dim; column += kColumn)
    for (int token = 0; token < kTokens; token += 2)
      for (int64_t i = column; i < column + kColumn && i < head_dim; i += 32) {
        const int64_t n = head_dim - i < 32 ? head_dim - i : 32;
        unpack_part(page, exponents, n, pairs);
        page += 2 * n, pairs += n, exponents += (n + 15) / 16 * 2;
        fetch.line();
      }
}

void widen(const uint32_t* pairs, int64_t rows, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row)
    for_lanes(width, [&](int64_t i, auto lanes) {
      const Vec pair = load_words(pairs + row * width + i, lanes);
      store(out + 2 * row * width + i, low_halves(pair), lanes);
      store(out + (2 * row + 1) * width + i, high_halves(pair), lanes);
    });
}

template <class Path>
constexpr RangeKernels kRange{Path::kRow, scores<Path>, softmax<Path>, accumulate<Path>};

constexpr AttentionKernels kAttentionTable{kRange<Float32>,  kRange<Bfloat16>, merge,         finish<float>,
                                           finish<uint16_t>, unpack_keys,      unpack_values, widen};

}  // namespace
}  // namespace tessera::cpu

// The linear with AVX-512 (F, BW, DQ, VL, VBMI, BF16). Block formats become bfloat16 input pairs, in registers for a few rows, through
// the cache for many; the pairs are the same bits either way, and so are the sums.
#include <immintrin.h>

#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;      // input pairs in a block
constexpr int64_t kPairBytes = kPanel * 4;  // of one input pair of a panel, in bfloat16
constexpr int64_t kPairBlock = kPairs * kPairBytes;
constexpr int64_t kRows = 6;         // rows that are multiplied together: 6 x 64 sums fill 24 registers
constexpr int64_t kChunk = 16;       // blocks that stay in the cache while all rows pass,
constexpr int64_t kShortChunk = 4;   // or so many, with the next ones beside them, where they come from memory all the time:
constexpr int64_t kBatchRows = 32;   // with up to so many rows
constexpr int64_t kCodeRows = 2;     // up to so many rows, block formats are multiplied straight from their codes,
constexpr int64_t kStripRows = 8;    // and up to so many in strips of 32 outputs,
constexpr int64_t kStripBlocks = 2;  // so many blocks at a time
static_assert(kChunk * kPairBlock <= static_cast<int64_t>(kScratchBytes));

// Tables from a code to a bfloat16. `field` is the exponent field of the largest magnitudes: 255 as unpacking wants it, which lowers it to
// the block's; kScaledField where the block's exponent goes to the other factor.
constexpr int kScaledField = 100;

struct Tables {
  alignas(64) uint8_t low[128], high[128];  // bfloat8_b magnitudes, by bytes
  alignas(64) uint16_t words[32];           // bfloat4_b codes, twice
};

constexpr uint32_t magnitude_bits(uint32_t magnitude, int bits, int field) {
  if (magnitude == 0) return 0;
  int top = 0;
  while (magnitude >> (top + 1)) ++top;
  return static_cast<uint32_t>(field - (bits - 1 - top)) << 7 | (magnitude << (7 - top) & 0x7Fu);
}

constexpr Tables make_tables(int field) {
  Tables tables{};
  for (uint32_t m = 0; m < 128; ++m) {
    tables.low[m] = static_cast<uint8_t>(magnitude_bits(m, 7, field));
    tables.high[m] = static_cast<uint8_t>(magnitude_bits(m, 7, field) >> 8);
  }
  for (uint32_t code = 0; code < 32; ++code)
    tables.words[code] = static_cast<uint16_t>(magnitude_bits(code & 7, 3, field) | ((code & 7) ? (code & 8) << 12 : 0));
  return tables;
}

constexpr Tables kTables = make_tables(255), kScaledTables = make_tables(kScaledField);

inline __m512 dot(__m512 sum, __m512i pairs, __m512i x) { return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)x); }

inline __m512i broadcast(const void* pair) {
  uint32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_set1_epi32(static_cast<int>(bits));
}

// Inlined by force: the compiler would take a function that only fetches for one without effect.
[[gnu::always_inline]] inline void fetch(const std::byte* data) { _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T0); }
[[gnu::always_inline]] inline void fetch_to_second_level(const std::byte* data) {
  _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T1);
}

// A load that stays in its register: the compiler would rather repeat it for each use, but loads are scarce here.
inline __m512i load_once(const std::byte* line) {
  __m512i value = _mm512_load_si512(line);
#if defined(__AVX512F__)  // not where it is emulated
  asm("" : "+v"(value));
#endif
  return value;
}

// (exponent - base) << 7 of 32 inputs: what the exponents of bfloat16 numbers move by.
inline __m512i exponent_steps(const std::byte* exponents, int base) {
  const __m512i exponent = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(exponents)));
  return _mm512_slli_epi16(_mm512_sub_epi16(exponent, _mm512_set1_epi16(static_cast<short>(base))), 7);
}

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;
  __m512i low0, low1, high0, high1, sign;

  explicit Bfloat8(const Tables& tables)
      : low0(_mm512_load_si512(tables.low)),
        low1(_mm512_load_si512(tables.low + 64)),
        high0(_mm512_load_si512(tables.high)),
        high1(_mm512_load_si512(tables.high + 64)),
        sign(_mm512_set1_epi8(static_cast<char>(0x80))) {}

  // The two input pairs of a line.
  [[gnu::always_inline]] void decode(const std::byte* line, __m512i& first, __m512i& second) const {
    const __m512i codes = load_once(line);
    const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
    const __m512i high = _mm512_ternarylogic_epi64(_mm512_permutex2var_epi8(high0, codes, high1), codes, sign, 0xF8);
    first = _mm512_unpacklo_epi8(low, high);
    second = _mm512_unpackhi_epi8(low, high);
  }

  // Calls take(pair, n, pairs) for each input pair and group of 16 outputs, pairs in order for each group.
  template <class Take>
  [[gnu::always_inline]] void read(const std::byte* block, int64_t ahead, const Take& take) const {
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; pair += 2) {
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n, line += 64) {
        fetch(line + ahead);
        __m512i first, second;
        decode(line, first, second);
        take(pair, n, first);
        take(pair + 1, n, second);
      }
    }
  }

  // Input pairs `pair`, which is even, and pair + 1 of a strip: of outputs 32 * strip .. 32 * strip + 31.
  template <int strip>
  [[gnu::always_inline]] void read_strip(const std::byte* block, int64_t pair, __m512i (&pairs)[2][2]) const {
    const std::byte* line = block + 4 * kBlock + (2 * pair + 2 * strip) * 64;
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) decode(line + 64 * n, pairs[0][n], pairs[1][n]);
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;
  __m512i words;

  explicit Bfloat4(const Tables& tables) : words(_mm512_load_si512(tables.words)) {}

  template <class Take>
  [[gnu::always_inline]] void read(const std::byte* block, int64_t ahead, const Take& take) const {
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      fetch(line + ahead);
      const __m512i codes = load_once(line);  // a look-up takes the low 5 bits of each word
      take(pair, 0, _mm512_permutexvar_epi16(codes, words));
      take(pair, 1, _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), words));
      take(pair, 2, _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), words));
      take(pair, 3, _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 12), words));
    }
  }

  template <int strip>
  [[gnu::always_inline]] void read_strip(const std::byte* block, int64_t pair, __m512i (&pairs)[2][2]) const {
    const std::byte* line = block + 4 * kBlock + pair * 64;
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512i codes = load_once(line + 64 * i);
      pairs[i][0] = _mm512_permutexvar_epi16(strip == 0 ? codes : _mm512_srli_epi16(codes, 8), words);
      pairs[i][1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8 * strip + 4), words);
    }
  }
};

// How far a block's exponents, [o / 16][k], are below 255. With saturation they come down by this, which leaves zeros as they are.
using Excess = uint16_t[4][kBlock];

inline void read_excess(const std::byte* block, Excess& excess) {
  for (int64_t n = 0; n < 4; ++n)
    for (int64_t k = 0; k < kBlock; k += 32)
      _mm512_store_si512(&excess[n][k], _mm512_sub_epi16(_mm512_setzero_si512(), exponent_steps(block + n * kBlock + k, 255)));
}

// A block as bfloat16 input pairs.
template <class Format>
inline void unpack_block(const Format& format, const std::byte* block, int64_t ahead, std::byte* to) {
  alignas(64) Excess excess;
  read_excess(block, excess);
  format.read(block, ahead, [&](int64_t pair, int n, __m512i pairs) __attribute__((always_inline)) {
    _mm512_store_si512(to + pair * kPairBytes + n * 64, _mm512_subs_epu16(pairs, broadcast(&excess[n][2 * pair])));
  });
}

// Blocks `first`, first + 1, ... of a panel, as they are multiplied.
struct Chunk {
  const std::byte* w;
  int64_t blocks, first;
  const std::byte* next = nullptr;  // what comes from memory next, to be fetched meanwhile; null: nothing
  int64_t lines = 0;                // of it, for each input pair
};

// A few rows by a chunk, from `row` on; continues the sums in y unless it is the panel's first.
using Multiply = void (*)(const Chunk& chunk, const PanelJob& job, int64_t row);

// The sums of `rows` x 16 * columns outputs in registers, from output `first` of the panel on.
template <int rows, int columns = 4>
struct Sums {
  __m512 sum[rows][columns];

  [[gnu::always_inline]] void load(const PanelJob& job, int64_t row, bool zero, int64_t first = 0) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n)
        sum[r][n] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(job.y + (row + r) * job.y_stride + first + 16 * n);
  }
  [[gnu::always_inline]] void store(const PanelJob& job, int64_t row, int64_t first = 0) const {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < columns; ++n) _mm512_storeu_ps(job.y + (row + r) * job.y_stride + first + 16 * n, sum[r][n]);
  }
  // Adds what y has, unless nothing is there yet, and stores.
  [[gnu::always_inline]] void add_to(const PanelJob& job, int64_t row, bool first) const {
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        float* y = job.y + (row + r) * job.y_stride + 16 * n;
        _mm512_storeu_ps(y, first ? sum[r][n] : _mm512_add_ps(_mm512_loadu_ps(y), sum[r][n]));
      }
  }
};

// bfloat16 rows by bfloat16 input pairs.
template <int rows>
void multiply_pairs(const Chunk& chunk, const PanelJob& job, int64_t row) {
  const uint16_t* x = static_cast<const uint16_t*>(job.x) + row * job.x_stride + chunk.first * kBlock;
  Sums<rows> sums;
  sums.load(job, row, chunk.first == 0);
  const bool streams = rows <= 2 || (job.rows <= kRows && job.ahead > 0);
  const std::byte* w = chunk.w;
  for (int64_t pair = 0; pair < chunk.blocks * kPairs; ++pair, w += kPairBytes) {
    if (chunk.next && chunk.lines == 1) fetch(chunk.next + pair * 64);
    if (chunk.next && chunk.lines > 1)  // too many for the first level
      for (int64_t i = pair * chunk.lines; i < (pair + 1) * chunk.lines; ++i) fetch_to_second_level(chunk.next + i * 64);
    __m512i value[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      if (streams) fetch(w + 64 * n + job.ahead);
      value[n] = _mm512_load_si512(w + 64 * n);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const __m512i both = broadcast(x + r * job.x_stride + 2 * pair);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sums.sum[r][n] = dot(sums.sum[r][n], value[n], both);
    }
  }
  sums.store(job, row);
}

// The block exponents for which x * 2^(exponent - kScaledField) is exact for all of x.
struct Scalable {
  uint8_t smallest, count;  // count 0: none

  explicit Scalable(const PanelJob& job) {
    const int lowest = kScaledField + 1 - job.x_smallest, highest = 254 + kScaledField - job.x_largest;
    const int first = lowest > 7 ? lowest : 7, last = highest < 254 ? highest : 254;
    smallest = static_cast<uint8_t>(first);
    count = static_cast<uint8_t>(job.x_largest == 255 || last < first ? 0 : last - first + 1);
  }
  bool holds(const std::byte* block) const {
    __mmask64 inside = ~__mmask64{0};
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      const __m512i above = _mm512_sub_epi8(_mm512_load_si512(block + n * 64), _mm512_set1_epi8(static_cast<char>(smallest)));
      inside &= _mm512_cmplt_epu8_mask(above, _mm512_set1_epi8(static_cast<char>(count)));
    }
    return inside == ~__mmask64{0};
  }
};

// bfloat16 rows straight from a block format's codes. The block exponents go to x, which is cheaper than to the weights; the products are
// the same as unpacked weights' wherever that is exact, and the few blocks where it isn't are unpacked.
template <class Format, int rows>
void multiply_codes(const Chunk& chunk, const PanelJob& job, int64_t row) {
  const Format format(kScaledTables);
  const Scalable scalable(job);
  const uint16_t* x = static_cast<const uint16_t*>(job.x) + row * job.x_stride + chunk.first * kBlock;
  Sums<rows> sums;
  sums.load(job, row, chunk.first == 0);
  const std::byte* w = chunk.w;
  for (int64_t b = 0; b < chunk.blocks; ++b, w += Format::block_bytes, x += kBlock) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) fetch(w + n * 64 + job.ahead);
    if (!scalable.holds(w)) [[unlikely]] {
      sums.store(job, row);
      unpack_block(Format(kTables), w, job.ahead, job.scratch);
      multiply_pairs<rows>({job.scratch, 1, chunk.first + b}, job, row);
      sums.load(job, row, false);
      continue;
    }
    alignas(64) uint16_t scaled[rows][4][kBlock];
    for (int64_t k = 0; k < kBlock; k += 32)
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) {
        const __m512i value = _mm512_loadu_si512(x + r * job.x_stride + k);
        const __mmask32 normal = _mm512_test_epi16_mask(value, _mm512_set1_epi16(0x7F80));  // zeros and denormals count as zero as they are
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n)
          _mm512_store_si512(&scaled[r][n][k],
                             _mm512_mask_add_epi16(value, normal, value, exponent_steps(w + n * kBlock + k, kScaledField)));
      }
    format.read(w, job.ahead, [&](int64_t pair, int n, __m512i pairs) __attribute__((always_inline)) {
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) sums.sum[r][n] = dot(sums.sum[r][n], pairs, broadcast(&scaled[r][n][2 * pair]));
    });
  }
  sums.store(job, row);
}

// A strip of all bfloat16 rows by a few blocks of a block format: a code is decoded once for more rows than have room beside 64 outputs.
// Meanwhile the lines from chunk.next on come from memory, at an even pace.
template <class Format, int rows, int strip>
[[gnu::always_inline]] inline void multiply_strip(const Format& format, const Chunk& chunk, const Excess* excess, const PanelJob& job) {
  constexpr int64_t lines = (Format::block_bytes / 64 - 4) / kPairs;
  const uint16_t* x = static_cast<const uint16_t*>(job.x) + chunk.first * kBlock;
  const std::byte *w = chunk.w, *next = chunk.next;
  Sums<rows, 2> sums;
  sums.load(job, 0, chunk.first == 0, 32 * strip);
  for (int64_t b = 0; b < chunk.blocks; ++b, w += Format::block_bytes, x += kBlock)
    for (int64_t pair = 0; pair < kPairs; pair += 2) {
#pragma GCC unroll 2
      for (int i = 0; i < lines; ++i, next += 64) fetch_to_second_level(next);
      __m512i pairs[2][2];
      format.template read_strip<strip>(w, pair, pairs);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
        for (int n = 0; n < 2; ++n) pairs[i][n] = _mm512_subs_epu16(pairs[i][n], broadcast(&excess[b][2 * strip + n][2 * (pair + i)]));
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
          const __m512i both = broadcast(x + r * job.x_stride + 2 * (pair + i));
#pragma GCC unroll 2
          for (int n = 0; n < 2; ++n) sums.sum[r][n] = dot(sums.sum[r][n], pairs[i][n], both);
        }
    }
  sums.store(job, 0, 32 * strip);
}

template <class Format, int rows>
void multiply_strips(const PanelJob& job) {
  const Format format(kTables);
  alignas(64) Excess excess[kStripBlocks];
  for (int64_t block = 0; block < job.blocks; block += kStripBlocks) {
    const int64_t blocks = job.blocks - block < kStripBlocks ? job.blocks - block : kStripBlocks;
    const std::byte* const w = job.panel + block * Format::block_bytes;
    const std::byte* next = w + blocks * Format::block_bytes;
    for (int64_t b = 0; b < blocks; ++b) {
      read_excess(w + b * Format::block_bytes, excess[b]);
      for (int i = 0; i < 4; ++i, next += 64) fetch_to_second_level(next);
    }
    multiply_strip<Format, rows, 0>(format, {w, blocks, block, next}, excess, job);
    next += blocks * (Format::block_bytes - 4 * kBlock) / 2;
    multiply_strip<Format, rows, 1>(format, {w, blocks, block, next}, excess, job);
  }
}

// float32 rows by bfloat16 input pairs.
template <int rows>
void multiply_widened(const Chunk& chunk, const PanelJob& job, int64_t row) {
  const float* x = static_cast<const float*>(job.x) + row * job.x_stride + chunk.first * kBlock;
  const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  const std::byte* w = chunk.w;
  for (int64_t block = chunk.first; block < chunk.first + chunk.blocks; ++block, x += kBlock) {
    Sums<rows> sums;
    sums.load(job, row, true);
    for (int64_t pair = 0; pair < kPairs; ++pair, w += kPairBytes)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        if (rows == 1) fetch(w + 64 * n + job.ahead);
        const __m512i both = load_once(w + 64 * n);
        const __m512 even_w = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), odd_w = _mm512_castsi512_ps(_mm512_and_si512(both, odd));
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          sums.sum[r][n] = _mm512_fmadd_ps(even_w, _mm512_set1_ps(x[r * job.x_stride + 2 * pair]), sums.sum[r][n]);
          sums.sum[r][n] = _mm512_fmadd_ps(odd_w, _mm512_set1_ps(x[r * job.x_stride + 2 * pair + 1]), sums.sum[r][n]);
        }
      }
    sums.add_to(job, row, block == 0);
  }
}

// float32 rows by float32 weights.
template <int rows>
void multiply_floats(const Chunk& chunk, const PanelJob& job, int64_t row) {
  const float* x = static_cast<const float*>(job.x) + row * job.x_stride + chunk.first * kBlock;
  const std::byte* w = chunk.w;
  for (int64_t block = chunk.first; block < chunk.first + chunk.blocks; ++block, x += kBlock) {
    Sums<rows> sums;
    sums.load(job, row, true);
    for (int64_t k = 0; k < kBlock; ++k, w += kPanel * 4) {
      __m512 value[4];
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        if (rows == 1) fetch(w + 64 * n + job.ahead);
        value[n] = _mm512_load_ps(w + 64 * n);
      }
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) sums.sum[r][n] = _mm512_fmadd_ps(value[n], _mm512_set1_ps(x[r * job.x_stride + k]), sums.sum[r][n]);
    }
    sums.add_to(job, row, block == 0);
  }
}

constexpr Multiply kPairRows[kRows] = {multiply_pairs<1>, multiply_pairs<2>, multiply_pairs<3>,
                                       multiply_pairs<4>, multiply_pairs<5>, multiply_pairs<6>};
constexpr Multiply kWidenedRows[kRows] = {multiply_widened<1>, multiply_widened<2>, multiply_widened<3>,
                                          multiply_widened<4>, multiply_widened<5>, multiply_widened<6>};
constexpr Multiply kFloatRows[kRows] = {multiply_floats<1>, multiply_floats<2>, multiply_floats<3>,
                                        multiply_floats<4>, multiply_floats<5>, multiply_floats<6>};
template <class Format>
constexpr Multiply kCodes[kCodeRows] = {multiply_codes<Format, 1>, multiply_codes<Format, 2>};
template <class Format>
constexpr PanelKernel kStrips[kStripRows - kCodeRows] = {multiply_strips<Format, 3>, multiply_strips<Format, 4>,
                                                         multiply_strips<Format, 5>, multiply_strips<Format, 6>,
                                                         multiply_strips<Format, 7>, multiply_strips<Format, 8>};

// All rows, in near-equal groups of at most kRows, by a chunk; meanwhile the `next_bytes` from chunk.next on are fetched.
void multiply_rows(const Multiply (&multiply)[kRows], Chunk chunk, int64_t next_bytes, const PanelJob& job) {
  const std::byte* end = chunk.next + next_bytes;
  const int64_t groups = (job.rows + kRows - 1) / kRows, pairs = groups * chunk.blocks * kPairs;
  chunk.lines = (next_bytes / 64 + pairs - 1) / pairs;
  for (int64_t group = 0, row = 0; group < groups; ++group) {
    const int64_t rows = (job.rows - row + groups - group - 1) / (groups - group);
    multiply[rows - 1](chunk, job, row);
    row += rows;
    if (chunk.next) chunk.next += chunk.blocks * kPairs * chunk.lines * 64;
    if (chunk.next >= end) chunk.next = nullptr;
  }
}

// A format that is multiplied as it is stored. A single group of rows streams through the panel.
template <const Multiply (&multiply)[kRows], int64_t block_bytes>
void multiply_stored(const PanelJob& job) {
  if (job.rows <= kRows) return multiply[job.rows - 1]({job.panel, job.blocks, 0}, job, 0);
  const int64_t step = job.rows <= kBatchRows ? kShortChunk : kChunk;
  for (int64_t block = 0; block < job.blocks; block += step) {
    const int64_t blocks = job.blocks - block < step ? job.blocks - block : step, bytes = blocks * block_bytes;
    const std::byte* w = job.panel + block * block_bytes;
    multiply_rows(multiply, {w, blocks, block, w + bytes}, bytes, job);
  }
}

// A block format, unpacked chunk by chunk.
template <class Format, const Multiply (&multiply)[kRows]>
void multiply_unpacked(const PanelJob& job) {
  const Format format(kTables);
  for (int64_t block = 0; block < job.blocks; block += kChunk) {
    const int64_t blocks = job.blocks - block < kChunk ? job.blocks - block : kChunk, bytes = blocks * Format::block_bytes;
    const std::byte* codes = job.panel + block * Format::block_bytes;
    for (int64_t b = 0; b < blocks; ++b) unpack_block(format, codes + b * Format::block_bytes, job.ahead, job.scratch + b * kPairBlock);
    multiply_rows(multiply, {job.scratch, blocks, block, codes + bytes}, bytes, job);
  }
}

template <class Format>
void multiply_bfloat16_rows(const PanelJob& job) {
  if (job.rows <= kCodeRows)
    kCodes<Format>[job.rows - 1]({job.panel, job.blocks, 0}, job, 0);
  else if (job.rows <= kStripRows)
    kStrips<Format>[job.rows - kCodeRows - 1](job);
  else
    multiply_unpacked<Format, kPairRows>(job);
}

void exponent_range(const uint16_t* x, int64_t count, uint8_t& smallest, uint8_t& largest) {
  uint16_t low = 255, high = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t field = x[i] >> 7 & 255, or_none = static_cast<uint16_t>(field ? field : 255);
    low = or_none < low ? or_none : low;
    high = field > high ? field : high;
  }
  smallest = static_cast<uint8_t>(low < smallest ? low : smallest);
  largest = static_cast<uint8_t>(high > largest ? high : largest);
}

}  // namespace

const LinearKernels kLinearAvx512{
    .bfloat16_rows = {.float32 = nullptr,
                      .bfloat16 = multiply_stored<kPairRows, kPairBlock>,
                      .bfloat8_b = multiply_bfloat16_rows<Bfloat8>,
                      .bfloat4_b = multiply_bfloat16_rows<Bfloat4>},
    .float32_rows = {.float32 = multiply_stored<kFloatRows, kBlock * kPanel * 4>,
                     .bfloat16 = multiply_stored<kWidenedRows, kPairBlock>,
                     .bfloat8_b = multiply_unpacked<Bfloat8, kWidenedRows>,
                     .bfloat4_b = multiply_unpacked<Bfloat4, kWidenedRows>},
    .exponent_range_rows = kCodeRows,
    .exponent_range = exponent_range,
    .digits_bytes = nullptr,
    .make_digits = nullptr,
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

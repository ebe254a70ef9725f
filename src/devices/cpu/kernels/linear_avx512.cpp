// The linear with AVX-512 (F, BW, DQ, VL, VBMI, BF16). Block formats become bfloat16 input pairs, in registers for a few rows, through
// the cache for many; the pairs are the same bits either way, and so are the sums.
#include <immintrin.h>

#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;           // input pairs in a block
constexpr int64_t kPairBytes = kPanel * 4;       // of one input pair of a panel, in bfloat16
constexpr int64_t kRows = 6;                     // rows that are multiplied together: 6 x 64 sums fill 24 registers
constexpr int64_t kChunk = kScratchBytes / (kPairs * kPairBytes);  // blocks that are unpacked together
constexpr int64_t kAhead = 8192;                 // bytes between what is read and what is fetched from memory

// Tables from a code to the bfloat16 that it stands for if its block's exponent were 255.
struct Tables {
  alignas(64) uint8_t low[128], high[128];  // bfloat8_b magnitudes
  alignas(64) uint16_t words[32];           // bfloat4_b codes, twice
};

constexpr uint32_t scaled_magnitude(uint32_t magnitude, int bits) {
  if (magnitude == 0) return 0;
  int top = 0;
  while (magnitude >> (top + 1)) ++top;
  return static_cast<uint32_t>(255 - (bits - 1 - top)) << 7 | (magnitude << (7 - top) & 0x7Fu);
}

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t m = 0; m < 128; ++m) {
    tables.low[m] = static_cast<uint8_t>(scaled_magnitude(m, 7));
    tables.high[m] = static_cast<uint8_t>(scaled_magnitude(m, 7) >> 8);
  }
  for (uint32_t code = 0; code < 32; ++code)
    tables.words[code] = static_cast<uint16_t>(scaled_magnitude(code & 7, 3) | ((code & 7) ? (code & 8) << 12 : 0));
  return tables;
}

constexpr Tables kTables = make_tables();

inline __m512 dot(__m512 sum, __m512i pairs, __m512i x) {
  return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)x);
}

inline __m512i broadcast(const void* pair) {
  uint32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm512_set1_epi32(static_cast<int>(bits));
}

// What a code's bfloat16 exponent is too large by: (255 - exponent) << 7 for each input of a block, by group of 16 outputs. Subtracted
// with saturation, so that a block of zeros (exponent 0) stays zero.
using Excess = uint16_t[4][kBlock];

inline void read_excess(const std::byte* exponents, Excess& excess) {
  for (int64_t n = 0; n < 4; ++n)
    for (int64_t k = 0; k < kBlock; k += 32) {
      const __m512i exponent = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(exponents + n * kBlock + k)));
      _mm512_store_si512(&excess[n][k], _mm512_slli_epi16(_mm512_sub_epi16(_mm512_set1_epi16(255), exponent), 7));
    }
}

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;
  __m512i low0, low1, high0, high1, sign;

  Bfloat8()
      : low0(_mm512_load_si512(kTables.low)),
        low1(_mm512_load_si512(kTables.low + 64)),
        high0(_mm512_load_si512(kTables.high)),
        high1(_mm512_load_si512(kTables.high + 64)),
        sign(_mm512_set1_epi8(static_cast<char>(0x80))) {}

  // Calls take(pair, n, pairs) for each input pair and group of 16 outputs; pairs in order for each group.
  template <class Take>
  [[gnu::always_inline]] void unpack(const std::byte* block, const Excess& excess, const Take& take) const {
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; pair += 2) {
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n, line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
        const __m512i codes = _mm512_load_si512(line);
        const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
        const __m512i high = _mm512_ternarylogic_epi64(_mm512_permutex2var_epi8(high0, codes, high1), codes, sign, 0xF8);
        take(pair, n, _mm512_subs_epu16(_mm512_unpacklo_epi8(low, high), broadcast(&excess[n][2 * pair])));
        take(pair + 1, n, _mm512_subs_epu16(_mm512_unpackhi_epi8(low, high), broadcast(&excess[n][2 * pair + 2])));
      }
    }
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;
  __m512i words;

  Bfloat4() : words(_mm512_load_si512(kTables.words)) {}

  template <class Take>
  [[gnu::always_inline]] void unpack(const std::byte* block, const Excess& excess, const Take& take) const {
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
      const __m512i codes = _mm512_load_si512(line);  // a look-up takes the low 5 bits of each word
      const __m512i group[4] = {codes, _mm512_srli_epi16(codes, 4), _mm512_srli_epi16(codes, 8), _mm512_srli_epi16(codes, 12)};
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n)
        take(pair, n, _mm512_subs_epu16(_mm512_permutexvar_epi16(group[n], words), broadcast(&excess[n][2 * pair])));
    }
  }
};

template <int rows>
inline void store_sums(const __m512 (&sum)[rows][4], float* y, int64_t y_stride) {
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) _mm512_storeu_ps(y + r * y_stride + 16 * n, sum[r][n]);
}

// A few rows by a block format, straight from its codes.
template <class Format, int rows>
void multiply_codes(const PanelJob& job) {
  const Format format;
  const uint16_t* x = static_cast<const uint16_t*>(job.x);
  const std::byte* block = job.panel;
  __m512 sum[rows][4];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) sum[r][n] = _mm512_setzero_ps();
  for (int64_t b = 0; b < job.blocks; ++b, block += Format::block_bytes, x += kBlock) {
    alignas(64) Excess excess;
    for (int n = 0; n < 4; ++n) _mm_prefetch(reinterpret_cast<const char*>(block + 64 * n + kAhead), _MM_HINT_T0);
    read_excess(block, excess);
    format.unpack(block, excess, [&](int64_t pair, int n, __m512i pairs) __attribute__((always_inline)) {
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r) sum[r][n] = dot(sum[r][n], pairs, broadcast(x + r * job.x_stride + 2 * pair));
    });
  }
  store_sums<rows>(sum, job.y, job.y_stride);
}

// bfloat16 rows by input pairs, continuing the sums in y unless `first`.
template <int rows>
void multiply_pairs(const std::byte* pairs, int64_t count, const uint16_t* x, int64_t x_stride, float* y, int64_t y_stride, bool first) {
  __m512 sum[rows][4];
#pragma GCC unroll 6
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) sum[r][n] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(y + r * y_stride + 16 * n);
  for (int64_t pair = 0; pair < count; ++pair, pairs += kPairBytes) {
    __m512i w[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      if (rows <= 2) _mm_prefetch(reinterpret_cast<const char*>(pairs + 64 * n + kAhead), _MM_HINT_T0);
      w[n] = _mm512_load_si512(pairs + 64 * n);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
      const __m512i both = broadcast(x + r * x_stride + 2 * pair);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sum[r][n] = dot(sum[r][n], w[n], both);
    }
  }
  store_sums<rows>(sum, y, y_stride);
}

// float32 rows by blocks of input pairs.
template <int rows>
void multiply_widened(const std::byte* pairs, int64_t blocks, const float* x, int64_t x_stride, float* y, int64_t y_stride, bool first) {
  const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  for (int64_t block = 0; block < blocks; ++block, x += kBlock, first = false) {
    __m512 sum[rows][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sum[r][n] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < kPairs; ++pair, pairs += kPairBytes) {
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        if (rows == 1) _mm_prefetch(reinterpret_cast<const char*>(pairs + 64 * n + kAhead), _MM_HINT_T0);
        const __m512i w = _mm512_load_si512(pairs + 64 * n);
        const __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), w1 = _mm512_castsi512_ps(_mm512_and_si512(w, odd));
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          sum[r][n] = _mm512_fmadd_ps(w0, _mm512_set1_ps(x[r * x_stride + 2 * pair]), sum[r][n]);
          sum[r][n] = _mm512_fmadd_ps(w1, _mm512_set1_ps(x[r * x_stride + 2 * pair + 1]), sum[r][n]);
        }
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        float* to = y + r * y_stride + 16 * n;
        _mm512_storeu_ps(to, first ? sum[r][n] : _mm512_add_ps(_mm512_loadu_ps(to), sum[r][n]));
      }
  }
}

// float32 rows by float32 weights.
template <int rows>
void multiply_floats(const std::byte* block, int64_t blocks, const float* x, int64_t x_stride, float* y, int64_t y_stride, bool first) {
  const float* w = reinterpret_cast<const float*>(block);
  for (int64_t b = 0; b < blocks; ++b, x += kBlock, first = false) {
    __m512 sum[rows][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) sum[r][n] = _mm512_setzero_ps();
    for (int64_t k = 0; k < kBlock; ++k, w += kPanel) {
      __m512 value[4];
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        if (rows == 1) _mm_prefetch(reinterpret_cast<const char*>(w + 16 * n) + kAhead, _MM_HINT_T0);
        value[n] = _mm512_load_ps(w + 16 * n);
      }
#pragma GCC unroll 6
      for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) sum[r][n] = _mm512_fmadd_ps(value[n], _mm512_set1_ps(x[r * x_stride + k]), sum[r][n]);
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        float* to = y + r * y_stride + 16 * n;
        _mm512_storeu_ps(to, first ? sum[r][n] : _mm512_add_ps(_mm512_loadu_ps(to), sum[r][n]));
      }
  }
}

template <int rows>
void multiply_pair_blocks(const std::byte* pairs, int64_t blocks, const uint16_t* x, int64_t x_stride, float* y, int64_t y_stride,
                          bool first) {
  multiply_pairs<rows>(pairs, blocks * kPairs, x, x_stride, y, y_stride, first);
}

template <class X>
using Multiply = void (*)(const std::byte* w, int64_t blocks, const X* x, int64_t x_stride, float* y, int64_t y_stride, bool first);

// All rows by `blocks` unpacked blocks, in near-equal groups of at most kRows rows.
template <class X>
void multiply_rows(const Multiply<X> (&multiply)[kRows], const std::byte* w, int64_t blocks, const PanelJob& job, int64_t first_block) {
  const int64_t groups = (job.rows + kRows - 1) / kRows;
  for (int64_t group = 0, row = 0; group < groups; ++group) {
    const int64_t rows = (job.rows - row + groups - group - 1) / (groups - group);
    multiply[rows - 1](w, blocks, static_cast<const X*>(job.x) + row * job.x_stride + first_block * kBlock, job.x_stride,
                       job.y + row * job.y_stride, job.y_stride, first_block == 0);
    row += rows;
  }
}


constexpr Multiply<uint16_t> kPairRows[kRows] = {multiply_pair_blocks<1>, multiply_pair_blocks<2>, multiply_pair_blocks<3>,
                                                 multiply_pair_blocks<4>, multiply_pair_blocks<5>, multiply_pair_blocks<6>};
constexpr Multiply<float> kWidenedRows[kRows] = {multiply_widened<1>, multiply_widened<2>, multiply_widened<3>,
                                                 multiply_widened<4>, multiply_widened<5>, multiply_widened<6>};
constexpr Multiply<float> kFloatRows[kRows] = {multiply_floats<1>, multiply_floats<2>, multiply_floats<3>,
                                               multiply_floats<4>, multiply_floats<5>, multiply_floats<6>};

// A format that is multiplied as it is stored, in chunks that stay in the cache while the rows pass.
template <class X, const Multiply<X> (&multiply)[kRows], int64_t block_bytes>
void multiply_stored(const PanelJob& job) {
  const int64_t chunk = job.rows <= kRows ? job.blocks : kChunk;
  for (int64_t block = 0; block < job.blocks; block += chunk) {
    const int64_t count = job.blocks - block < chunk ? job.blocks - block : chunk;
    multiply_rows<X>(multiply, job.panel + block * block_bytes, count, job, block);
  }
}

// A block format, unpacked chunk by chunk.
template <class Format, class X, const Multiply<X> (&multiply)[kRows]>
void multiply_unpacked(const PanelJob& job) {
  const Format format;
  for (int64_t block = 0; block < job.blocks; block += kChunk) {
    const int64_t count = job.blocks - block < kChunk ? job.blocks - block : kChunk;
    for (int64_t b = 0; b < count; ++b) {
      alignas(64) Excess excess;
      const std::byte* from = job.panel + (block + b) * Format::block_bytes;
      std::byte* to = job.scratch + b * kPairs * kPairBytes;
      read_excess(from, excess);
      format.unpack(from, excess, [&](int64_t pair, int n, __m512i pairs) __attribute__((always_inline)) {
        _mm512_store_si512(to + pair * kPairBytes + n * 64, pairs);
      });
    }
    multiply_rows<X>(multiply, job.scratch, count, job, block);
  }
}

template <class Format>
void multiply_bfloat16_rows(const PanelJob& job) {
  constexpr PanelKernel few[4] = {multiply_codes<Format, 1>, multiply_codes<Format, 2>, multiply_codes<Format, 3>, multiply_codes<Format, 4>};
  if (job.rows <= 4)
    few[job.rows - 1](job);
  else
    multiply_unpacked<Format, uint16_t, kPairRows>(job);
}

}  // namespace

const LinearKernels kLinearAvx512{
    .bfloat16_rows = {.float32 = nullptr,
                      .bfloat16 = multiply_stored<uint16_t, kPairRows, kPairs * kPairBytes>,
                      .bfloat8_b = multiply_bfloat16_rows<Bfloat8>,
                      .bfloat4_b = multiply_bfloat16_rows<Bfloat4>},
    .float32_rows = {.float32 = multiply_stored<float, kFloatRows, kBlock * kPanel * 4>,
                     .bfloat16 = multiply_stored<float, kWidenedRows, kPairs * kPairBytes>,
                     .bfloat8_b = multiply_unpacked<Bfloat8, float, kWidenedRows>,
                     .bfloat4_b = multiply_unpacked<Bfloat4, float, kWidenedRows>},
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

// The linear with AVX2 and FMA: rows are float32; block formats are unpacked to bfloat16 input pairs, block by block.
#include <immintrin.h>

#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;
constexpr int64_t kRows = 6;
constexpr int64_t kAhead = 4096;  // bytes between what is read and what is fetched from memory

// The addend that brings the exponents of a code's bfloat16 (as a whole number) to the block's, for each input and group of 16 outputs.
using Addend = uint16_t[4][kBlock];

inline void read_addend(const std::byte* exponents, int bias, Addend& addend) {
  const uint8_t* exponent = reinterpret_cast<const uint8_t*>(exponents);
  for (int64_t n = 0; n < 4; ++n)
    for (int64_t k = 0; k < kBlock; ++k) addend[n][k] = static_cast<uint16_t>((exponent[n * kBlock + k] - bias) << 7);
}

inline __m256i broadcast(const uint16_t* pair) {
  uint32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return _mm256_set1_epi32(static_cast<int>(bits));
}

// The pairs' exponents moved by `addend`; zeros stay zero.
inline __m256i scale(__m256i pairs, __m256i addend) {
  return _mm256_andnot_si256(_mm256_cmpeq_epi16(pairs, _mm256_setzero_si256()), _mm256_add_epi16(pairs, addend));
}

// From words with one bfloat8_b code each.
inline __m256i pairs_of_codes8(__m256i codes, __m256i addend) {
  const __m256i magnitude = _mm256_and_si256(codes, _mm256_set1_epi16(0x7F));
  const __m256i even = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_and_si256(magnitude, _mm256_set1_epi32(0xFF))));
  const __m256i odd = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_srli_epi32(magnitude, 16)));
  const __m256i pairs = scale(_mm256_or_si256(_mm256_srli_epi32(even, 16), odd), addend);
  return _mm256_or_si256(pairs, _mm256_slli_epi16(_mm256_srli_epi16(codes, 7), 15));
}

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;
  static void unpack(const std::byte* block, uint32_t* pairs) {
    Addend addend;
    read_addend(block, 127 + 6, addend);
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; pair += 2)
      for (int64_t n = 0; n < 4; ++n, line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
        const __m256i first = broadcast(&addend[n][2 * pair]), second = broadcast(&addend[n][2 * pair + 2]);
        for (int64_t half = 0; half < 2; ++half) {
          const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
          uint32_t* to = pairs + pair * kPanel + n * 16 + half * 8;
          _mm256_store_si256(reinterpret_cast<__m256i*>(to),
                             pairs_of_codes8(_mm256_unpacklo_epi8(codes, _mm256_setzero_si256()), first));
          _mm256_store_si256(reinterpret_cast<__m256i*>(to + kPanel),
                             pairs_of_codes8(_mm256_unpackhi_epi8(codes, _mm256_setzero_si256()), second));
        }
      }
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;
  static void unpack(const std::byte* block, uint32_t* pairs) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, char(0x80), 0, 0x40, char(0x80), char(0xA0), char(0xC0), char(0xE0), 0,
                                                                  char(0x80), 0, 0x40, char(0x80), char(0xA0), char(0xC0), char(0xE0)));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0x3F, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0, char(0xBF), char(0xC0),
                                                                   char(0xC0), char(0xC0), char(0xC0), char(0xC0), char(0xC0)));
    const __m256i none = _mm256_set1_epi16(static_cast<short>(0x8080));  // a look-up of 0x80 gives 0
    Addend addend;
    read_addend(block, 127 + 2, addend);
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
      for (int64_t half = 0; half < 2; ++half) {
        __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
        for (int64_t n = 0; n < 4; ++n, words = _mm256_srli_epi16(words, 4)) {
          const __m256i code = _mm256_and_si256(words, _mm256_set1_epi16(15));
          const __m256i in_low = _mm256_blendv_epi8(none, code, _mm256_set1_epi16(0xFF));
          const __m256i in_high = _mm256_blendv_epi8(_mm256_slli_epi16(code, 8), none, _mm256_set1_epi16(0xFF));
          const __m256i value = _mm256_or_si256(_mm256_shuffle_epi8(low, in_low), _mm256_shuffle_epi8(high, in_high));
          _mm256_store_si256(reinterpret_cast<__m256i*>(pairs + pair * kPanel + n * 16 + half * 8),
                             scale(value, broadcast(&addend[n][2 * pair])));
        }
      }
    }
  }
};

// How a block of weights is read: the values of 8 outputs for inputs 2 * pair and 2 * pair + 1.
struct Pairs {
  static constexpr int64_t block_bytes = kPairs * kPanel * 4;
  static void read(const std::byte* block, int64_t pair, int64_t o, __m256& even, __m256& odd) {
    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(block + (pair * kPanel + o) * 4));
    even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
};

struct Floats {
  static constexpr int64_t block_bytes = kBlock * kPanel * 4;
  static void read(const std::byte* block, int64_t pair, int64_t o, __m256& even, __m256& odd) {
    const float* w = reinterpret_cast<const float*>(block) + 2 * pair * kPanel + o;
    even = _mm256_load_ps(w);
    odd = _mm256_load_ps(w + kPanel);
  }
};

// One block, for `vectors` x 8 outputs at a time: rows x vectors sums stay in registers.
template <class Weights, int rows, int vectors>
void multiply_block(const std::byte* block, const float* x, int64_t x_stride, float* y, int64_t y_stride, bool first) {
  for (int64_t o = 0; o < kPanel; o += 8 * vectors) {
    __m256 sum[rows][vectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_setzero_ps();
    for (int64_t pair = 0; pair < kPairs; ++pair) {
      if (rows == 1)
        for (int64_t line = 0; line < Weights::block_bytes / kPairs; line += 64)
          _mm_prefetch(reinterpret_cast<const char*>(block + pair * (Weights::block_bytes / kPairs) + line + kAhead), _MM_HINT_T0);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        __m256 even, odd;
        Weights::read(block, pair, o + 8 * v, even, odd);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          sum[r][v] = _mm256_fmadd_ps(even, _mm256_set1_ps(x[r * x_stride + 2 * pair]), sum[r][v]);
          sum[r][v] = _mm256_fmadd_ps(odd, _mm256_set1_ps(x[r * x_stride + 2 * pair + 1]), sum[r][v]);
        }
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        float* to = y + r * y_stride + o + 8 * v;
        _mm256_storeu_ps(to, first ? sum[r][v] : _mm256_add_ps(_mm256_loadu_ps(to), sum[r][v]));
      }
  }
}

template <class Weights>
void multiply_rows(const std::byte* w, const PanelJob& job, int64_t block) {
  using Multiply = void (*)(const std::byte*, const float*, int64_t, float*, int64_t, bool);
  constexpr Multiply multiply[kRows] = {multiply_block<Weights, 1, 8>, multiply_block<Weights, 2, 4>, multiply_block<Weights, 3, 4>,
                                        multiply_block<Weights, 4, 2>, multiply_block<Weights, 5, 2>, multiply_block<Weights, 6, 2>};
  for (int64_t row = 0; row < job.rows; row += kRows) {
    const int64_t rows = job.rows - row < kRows ? job.rows - row : kRows;
    multiply[rows - 1](w, static_cast<const float*>(job.x) + row * job.x_stride + block * kBlock, job.x_stride,
                       job.y + row * job.y_stride, job.y_stride, block == 0);
  }
}

template <class Weights>
void multiply_stored(const PanelJob& job) {
  for (int64_t block = 0; block < job.blocks; ++block) multiply_rows<Weights>(job.panel + block * Weights::block_bytes, job, block);
}

template <class Format>
void multiply_unpacked(const PanelJob& job) {
  for (int64_t block = 0; block < job.blocks; ++block) {
    Format::unpack(job.panel + block * Format::block_bytes, reinterpret_cast<uint32_t*>(job.scratch));
    multiply_rows<Pairs>(job.scratch, job, block);
  }
}

}  // namespace

const LinearKernels kLinearAvx2{
    .bfloat16_rows = {},
    .float32_rows = {.float32 = multiply_stored<Floats>,
                     .bfloat16 = multiply_stored<Pairs>,
                     .bfloat8_b = multiply_unpacked<Bfloat8>,
                     .bfloat4_b = multiply_unpacked<Bfloat4>},
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

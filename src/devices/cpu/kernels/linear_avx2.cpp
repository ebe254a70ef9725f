// The linear with AVX2 and FMA: rows are float32; block formats are unpacked to float32, one block at a time, which stays in the L1 cache.
#include <immintrin.h>

#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;
constexpr int64_t kRows = 6;

// Inlined by force: the compiler would take a function that only fetches for one without effect.
[[gnu::always_inline]] inline void fetch(const std::byte* data) { _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T0); }

// 2^(exponent - bias): what a whole magnitude is multiplied with, for each input and group of 16 outputs. Exact from exponent 7 on.
inline void read_scales(const std::byte* exponents, uint32_t bias, float (&scales)[4][kBlock]) {
  const uint8_t* exponent = reinterpret_cast<const uint8_t*>(exponents);
  for (int64_t n = 0; n < 4; ++n)
    for (int64_t k = 0; k < kBlock; ++k) scales[n][k] = __builtin_bit_cast(float, (exponent[n * kBlock + k] + 127 - bias) << 23);
}

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;

  // Calls take(k, v, values) with the values of outputs 8v..8v+7 for each input, inputs in order for each v. (A NaN becomes an infinity.)
  template <class Take>
  [[gnu::always_inline]] static void read(const std::byte* block, int64_t ahead, const Take& take) {
    float scales[4][kBlock];
    read_scales(block, 127 + 6, scales);
    const std::byte* line = block + 4 * kBlock;
    for (int64_t k = 0; k < kBlock; k += 4)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n, line += 64) {
        fetch(line + ahead);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
          const int v = 2 * n + half;
          const __m256i first = _mm256_unpacklo_epi8(codes, _mm256_setzero_si256()), second = _mm256_unpackhi_epi8(codes, _mm256_setzero_si256());
          take(k, v, even_value(first, scales[n][k]));
          take(k + 1, v, odd_value(first, scales[n][k + 1]));
          take(k + 2, v, even_value(second, scales[n][k + 2]));
          take(k + 3, v, odd_value(second, scales[n][k + 3]));
        }
      }
  }

 private:
  // Of words with one code each, for two inputs in turn.
  static __m256 even_value(__m256i words, float scale) {
    const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi32(0x7F));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sign_epi32(magnitude, _mm256_slli_epi32(words, 24))), _mm256_set1_ps(scale));
  }
  static __m256 odd_value(__m256i words, float scale) {
    const __m256i magnitude = _mm256_and_si256(_mm256_srli_epi32(words, 16), _mm256_set1_epi32(0x7F));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sign_epi32(magnitude, _mm256_slli_epi32(words, 8))), _mm256_set1_ps(scale));
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;

  template <class Take>
  [[gnu::always_inline]] static void read(const std::byte* block, int64_t ahead, const Take& take) {
    float scales[4][kBlock];
    read_scales(block, 127 + 2, scales);
    const __m256 magnitudes = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);  // a look-up takes the low 3 bits
    const __m256i sign = _mm256_set1_epi32(static_cast<int>(0x80000000u));
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      fetch(line + ahead);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
#pragma GCC unroll 8
        for (int code = 0; code < 8; ++code) {  // codes of 4 groups for the even input, then for the odd one
          const int n = code % 4;
          const int64_t k = 2 * pair + code / 4;
          const __m256 value = _mm256_permutevar8x32_ps(magnitudes, _mm256_srli_epi32(words, 4 * code));
          const __m256 scaled = _mm256_mul_ps(value, _mm256_set1_ps(scales[n][k]));
          const __m256i negative = _mm256_and_si256(_mm256_slli_epi32(words, 28 - 4 * code), sign);
          take(k, 2 * n + half, _mm256_xor_ps(scaled, _mm256_castsi256_ps(negative)));
        }
      }
    }
  }
};

// How a block of weights is read: the values of 8 outputs for one input.
struct Pairs {
  static constexpr int64_t block_bytes = kPairs * kPanel * 4;
  static __m256 read(const std::byte* block, int64_t k, int64_t o) {
    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(block + (k / 2 * kPanel + o) * 4));
    return _mm256_castsi256_ps(k % 2 ? _mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))) : _mm256_slli_epi32(both, 16));
  }
};

struct Floats {
  static constexpr int64_t block_bytes = kBlock * kPanel * 4;
  static __m256 read(const std::byte* block, int64_t k, int64_t o) {
    return _mm256_load_ps(reinterpret_cast<const float*>(block) + k * kPanel + o);
  }
};
static_assert(Floats::block_bytes <= static_cast<int64_t>(kScratchBytes));

// Some rows by the block `index` of a panel, for 8 x vectors outputs at a time: rows x vectors sums stay in registers.
template <class Weights, int rows, int vectors>
void multiply_block(const std::byte* w, const PanelJob& job, int64_t row, int64_t index) {
  const float* x = static_cast<const float*>(job.x) + row * job.x_stride + index * kBlock;
  for (int64_t o = 0; o < kPanel; o += 8 * vectors) {
    __m256 sum[rows][vectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_setzero_ps();
#pragma GCC unroll 2
    for (int64_t k = 0; k < kBlock; ++k) {
      // The smaller of the two factors' vectors is held in registers, beside the sums: there are only 16.
      __m256 held[rows < vectors ? rows : vectors];
      if constexpr (rows < vectors) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) held[r] = _mm256_set1_ps(x[r * job.x_stride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const __m256 value = Weights::read(w, k, o + 8 * v);
#pragma GCC unroll 6
          for (int r = 0; r < rows; ++r) sum[r][v] = _mm256_fmadd_ps(value, held[r], sum[r][v]);
        }
      } else {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) held[v] = Weights::read(w, k, o + 8 * v);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          const __m256 input = _mm256_set1_ps(x[r * job.x_stride + k]);
#pragma GCC unroll 8
          for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_fmadd_ps(held[v], input, sum[r][v]);
        }
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        float* y = job.y + (row + r) * job.y_stride + o + 8 * v;
        _mm256_storeu_ps(y, index == 0 ? sum[r][v] : _mm256_add_ps(_mm256_loadu_ps(y), sum[r][v]));
      }
  }
}

template <class Weights>
void multiply_rows(const std::byte* w, const PanelJob& job, int64_t index) {
  constexpr void (*multiply[kRows])(const std::byte*, const PanelJob&, int64_t, int64_t) = {
      multiply_block<Weights, 1, 8>, multiply_block<Weights, 2, 4>, multiply_block<Weights, 3, 4>,
      multiply_block<Weights, 4, 2>, multiply_block<Weights, 5, 2>, multiply_block<Weights, 6, 2>};
  for (int64_t row = 0; row < job.rows; row += kRows) {
    const int64_t rows = job.rows - row < kRows ? job.rows - row : kRows;
    multiply[rows - 1](w, job, row, index);
  }
}

template <class Weights>
void multiply_stored(const PanelJob& job) {
  for (int64_t block = 0; block < job.blocks; ++block) multiply_rows<Weights>(job.panel + block * Weights::block_bytes, job, block);
}

// One row straight from a block format's codes.
template <class Format>
void multiply_codes(const PanelJob& job) {
  const float* x = static_cast<const float*>(job.x);
  for (int64_t block = 0; block < job.blocks; ++block, x += kBlock) {
    __m256 sum[8];
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) sum[v] = _mm256_setzero_ps();
    Format::read(job.panel + block * Format::block_bytes, job.ahead, [&](int64_t k, int v, __m256 values) __attribute__((always_inline)) {
      sum[v] = _mm256_fmadd_ps(values, _mm256_set1_ps(x[k]), sum[v]);
    });
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v)
      _mm256_storeu_ps(job.y + 8 * v, block == 0 ? sum[v] : _mm256_add_ps(_mm256_loadu_ps(job.y + 8 * v), sum[v]));
  }
}

template <class Format>
void multiply_unpacked(const PanelJob& job) {
  if (job.rows == 1) return multiply_codes<Format>(job);
  float* unpacked = reinterpret_cast<float*>(job.scratch);
  for (int64_t block = 0; block < job.blocks; ++block) {
    Format::read(job.panel + block * Format::block_bytes, job.ahead, [&](int64_t k, int v, __m256 values) __attribute__((always_inline)) {
      _mm256_store_ps(unpacked + k * kPanel + 8 * v, values);
    });
    multiply_rows<Floats>(job.scratch, job, block);
  }
}

}  // namespace

const LinearKernels kLinearAvx2{
    .bfloat16_rows = {},
    .float32_rows = {.float32 = multiply_stored<Floats>,
                     .bfloat16 = multiply_stored<Pairs>,
                     .bfloat8_b = multiply_unpacked<Bfloat8>,
                     .bfloat4_b = multiply_unpacked<Bfloat4>},
    .exponent_range_rows = 0,
    .exponent_range = nullptr,
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

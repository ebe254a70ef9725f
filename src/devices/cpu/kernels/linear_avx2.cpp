// The linear with AVX2 and FMA: rows are float32. Weights are multiplied as they are stored while the rows' sums fit the registers (block
// formats: for one row), else unpacked to float32, one block at a time, which stays in the L1 cache. The products, and so the sums, are the
// same either way.
#include <immintrin.h>

#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;
constexpr int64_t kRows = 6;       // that are multiplied together
constexpr int64_t kFewRows = 2;    // that only wait for the memory
constexpr int64_t kSomeRows = 32;  // whose multiplication is no longer than the wait for the next block

// Inlined by force: the compiler would take a function that only fetches for one without effect.
[[gnu::always_inline]] inline void fetch(const std::byte* data) { _mm_prefetch(reinterpret_cast<const char*>(data), _MM_HINT_T0); }

// Puts byte `from` of each word, counted in `step`s within a half vector, into the word's highest byte.
inline __m256i to_highest_byte(int from, int step) {
  const auto of_word = [&](int word) { return static_cast<int>(static_cast<uint32_t>(from + step * word) << 24 | 0x808080u); };
  return _mm256_setr_epi32(of_word(0), of_word(1), of_word(2), of_word(3), of_word(0), of_word(1), of_word(2), of_word(3));
}

// Codes are read as whole numbers times 2^24, which is what one shuffle makes of them.
constexpr int kCodeShift = 24;
// Blocks whose exponents all lie in here are multiplied by codes and powers of two, for both stay normal numbers; others, which no
// checkpoint is known to have, are unpacked in two steps.
constexpr int kLeastExponent = 97, kGreatestExponent = 224;

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;
  static constexpr int kBias = 127 + 6;  // a weight is its code times 2^(exponent - kBias)

  // Calls take(k, v, codes) with the codes of outputs 8v..8v+7 for each input, inputs in order for each v.
  template <class Take>
  [[gnu::always_inline]] static void read(const std::byte* block, int64_t ahead, const Take& take) {
    const __m256i magnitude = _mm256_set1_epi8(0x7F);
    const __m256i input[4] = {to_highest_byte(0, 2), to_highest_byte(1, 2), to_highest_byte(8, 2), to_highest_byte(9, 2)};
    const std::byte* line = block + 4 * kBlock;
    for (int64_t k = 0; k < kBlock; k += 4)
#pragma GCC unroll 2
      for (int n = 0; n < 4; n += 2, line += 128) {
        fetch(line + ahead);
        fetch(line + ahead + 64);
        __m256i numbers[4];
#pragma GCC unroll 4
        for (int half = 0; half < 4; ++half) {
          const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
          numbers[half] = _mm256_sign_epi8(_mm256_and_si256(codes, magnitude), codes);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
          for (int half = 0; half < 4; ++half) take(k + i, 2 * n + half, _mm256_cvtepi32_ps(_mm256_shuffle_epi8(numbers[half], input[i])));
      }
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;
  static constexpr int kBias = 127 + 2;

  template <class Take>
  [[gnu::always_inline]] static void read(const std::byte* block, int64_t ahead, const Take& take) {
    const __m256i number_of = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 0, -1, -2, -3, -4, -5, -6, -7));
    const __m256i code = _mm256_set1_epi8(0x0F);
    const __m256i byte[4] = {to_highest_byte(0, 4), to_highest_byte(1, 4), to_highest_byte(2, 4), to_highest_byte(3, 4)};
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      fetch(line + ahead);
      __m256i numbers[2][2];  // [half][n % 2]
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(line) + half);
        numbers[half][0] = _mm256_shuffle_epi8(number_of, _mm256_and_si256(words, code));
        numbers[half][1] = _mm256_shuffle_epi8(number_of, _mm256_and_si256(_mm256_srli_epi16(words, 4), code));
      }
#pragma GCC unroll 2
      for (int input = 0; input < 2; ++input)  // a word has two bytes for each: of n = 0 and 1, then 2 and 3
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n)
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half)
            take(2 * pair + input, 2 * n + half, _mm256_cvtepi32_ps(_mm256_shuffle_epi8(numbers[half][n % 2], byte[2 * input + n / 2])));
    }
  }
};

inline bool has_usual_exponents(const std::byte* block) {
  const __m256i* exponents = reinterpret_cast<const __m256i*>(block);
  __m256i greatest = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    greatest = _mm256_max_epu8(greatest, _mm256_sub_epi8(_mm256_load_si256(exponents + i), _mm256_set1_epi8(kLeastExponent)));
  const __m256i last = _mm256_set1_epi8(static_cast<char>(kGreatestExponent - kLeastExponent));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(greatest, last), last)) == -1;
}

// 2^(exponent - bias) for each group of 16 outputs and input; times that input, if there are any. The exponents must be bias - 126 at
// least.
template <int bias>
[[gnu::always_inline]] inline void read_powers(const std::byte* block, const float* inputs, float (&powers)[4 * kBlock]) {
  const __m256i bytes[2] = {
      _mm256_setr_epi32(0x00808080, 0x01808080, 0x02808080, 0x03808080, 0x04808080, 0x05808080, 0x06808080, 0x07808080),
      _mm256_setr_epi32(0x08808080, 0x09808080, 0x0A808080, 0x0B808080, 0x0C808080, 0x0D808080, 0x0E808080, 0x0F808080)};
  for (int64_t i = 0; i < 4 * kBlock; i += 16) {
    const __m256i exponents = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(block + i)));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256i fields = _mm256_srli_epi32(_mm256_shuffle_epi8(exponents, bytes[half]), 1);
      const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(fields, _mm256_set1_epi32((127 - bias) * (1 << 23))));
      _mm256_store_ps(powers + i + 8 * half, inputs ? _mm256_mul_ps(power, _mm256_loadu_ps(inputs + i % kBlock + 8 * half)) : power);
    }
  }
}

// A block as float32, [k][o]. Any exponents: 7 at least in all blocks, so that the powers are numbers. (A NaN becomes an infinity.)
template <class Format>
void unpack_block(const std::byte* block, int64_t ahead, float* to) {
  alignas(32) float powers[4 * kBlock];
  const auto unpack = [&](const auto& scale) __attribute__((always_inline)) {
    Format::read(block, ahead, [&](int64_t k, int v, __m256 codes) __attribute__((always_inline)) {
      _mm256_store_ps(to + k * kPanel + 8 * v, _mm256_mul_ps(scale(codes), _mm256_broadcast_ss(powers + v / 2 * kBlock + k)));
    });
  };
  if (has_usual_exponents(block)) [[likely]] {
    read_powers<Format::kBias + kCodeShift>(block, nullptr, powers);
    unpack([](__m256 codes) { return codes; });
  } else {
    read_powers<Format::kBias>(block, nullptr, powers);
    unpack([](__m256 codes) { return _mm256_mul_ps(codes, _mm256_set1_ps(1.0f / (1 << kCodeShift))); });
  }
}

// How a block of weights is read: the values of 8 outputs for one input.
struct Pairs {
  static constexpr int64_t block_bytes = kPairs * kPanel * 4;
  static constexpr int64_t inputs_at_once = 2;  // in a line
  static constexpr int three_rows_vectors = 2;  // 4 would leave no register to take the inputs apart in
  static const std::byte* at(const std::byte* block, int64_t k, int64_t o) { return block + (k / 2 * kPanel + o) * 4; }
  static __m256 read(const std::byte* block, int64_t k, int64_t o) {
    const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(at(block, k, o)));
    return _mm256_castsi256_ps(k % 2 ? _mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u)))
                                     : _mm256_slli_epi32(both, 16));
  }
};

struct Floats {
  static constexpr int64_t block_bytes = kBlock * kPanel * 4;
  static constexpr int64_t inputs_at_once = 1;
  static constexpr int three_rows_vectors = 4;
  static const std::byte* at(const std::byte* block, int64_t k, int64_t o) { return block + (k * kPanel + o) * 4; }
  static __m256 read(const std::byte* block, int64_t k, int64_t o) {
    return _mm256_load_ps(reinterpret_cast<const float*>(at(block, k, o)));
  }
};
static_assert(Floats::block_bytes <= static_cast<int64_t>(kScratchBytes));

void unpack_pairs(const std::byte* block, int64_t ahead, float* to) {
  for (int64_t k = 0; k < kBlock; k += 2)
#pragma GCC unroll 8
    for (int64_t o = 0; o < kPanel; o += 8) {
      if (o % 16 == 0) fetch(Pairs::at(block, k, o) + ahead);
      _mm256_store_ps(to + k * kPanel + o, Pairs::read(block, k, o));
      _mm256_store_ps(to + (k + 1) * kPanel + o, Pairs::read(block, k + 1, o));
    }
}

// Sums over block `index` join those of the blocks before it.
inline void add_to(float* y, __m256 sum, int64_t index) { _mm256_storeu_ps(y, index == 0 ? sum : _mm256_add_ps(_mm256_loadu_ps(y), sum)); }

// What is fetched from memory while a block is multiplied: what lies `job.ahead` bytes behind the line that is read; the lines from `next`
// on; or nothing, which leaves more of the processor to many rows.
enum class Fetch { ahead, next, nothing };

// Some rows by the block `index` of a panel, for 8 x vectors outputs at a time: rows x vectors sums stay in registers.
template <class Weights, int rows, int vectors, Fetch fetched>
void multiply_block(const std::byte* w, const PanelJob& job, int64_t row, int64_t index, const std::byte* next) {
  const int64_t x_stride = job.x_stride, y_stride = job.y_stride, ahead = job.ahead;  // read once: what is stored to y might be the job
  const float* x = static_cast<const float*>(job.x) + row * x_stride + index * kBlock;
  float* y = job.y + row * y_stride;
  for (int64_t o = 0; o < kPanel; o += 8 * vectors) {
    __m256 sum[rows][vectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_setzero_ps();
#pragma GCC unroll 2
    for (int64_t k = 0; k < kBlock; ++k) {
      if (fetched == Fetch::ahead && k % Weights::inputs_at_once == 0)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v += 2) fetch(Weights::at(w, k, o + 8 * v) + ahead);
      if (fetched == Fetch::next && k % 2 == 0) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
        next += 64;
      }
      // The smaller of the two factors' vectors is held in registers, beside the sums: there are only 16.
      __m256 held[rows < vectors ? rows : vectors];
      if constexpr (rows < vectors) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) held[r] = _mm256_broadcast_ss(x + r * x_stride + k);
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
          const __m256 input = _mm256_broadcast_ss(x + r * x_stride + k);
#pragma GCC unroll 8
          for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_fmadd_ps(held[v], input, sum[r][v]);
        }
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) add_to(y + r * y_stride + o + 8 * v, sum[r][v], index);
  }
}

// Inputs of the rows that are multiplied next, which no hardware foresees: a row's next inputs lie far from the next row's.
inline void fetch_inputs(const PanelJob& job, int64_t row, int64_t index) {
  const float* x = static_cast<const float*>(job.x) + row * job.x_stride + index * kBlock;
  for (int64_t last = job.rows - row < kRows ? job.rows : row + kRows; row < last; ++row, x += job.x_stride)
    for (int64_t k = 0; k < kBlock; k += 16) fetch(reinterpret_cast<const std::byte*>(x + k));
}

using Multiply = void (*)(const std::byte*, const PanelJob&, int64_t, int64_t, const std::byte*);
template <class Weights, Fetch fetched>
constexpr Multiply kMultiply[kRows] = {multiply_block<Weights, 1, 8, fetched>,
                                       multiply_block<Weights, 2, 4, fetched>,
                                       multiply_block<Weights, 3, Weights::three_rows_vectors, fetched>,
                                       multiply_block<Weights, 4, 2, fetched>,
                                       multiply_block<Weights, 5, 2, fetched>,
                                       multiply_block<Weights, 6, 2, fetched>};

// All rows, in near-equal groups of at most kRows, by a block; only the first group fetches.
template <class Weights, Fetch fetched>
void multiply_rows(const std::byte* w, const PanelJob& job, int64_t index, const std::byte* next) {
  const int64_t groups = (job.rows + kRows - 1) / kRows;
  for (int64_t group = 0, row = 0; group < groups; ++group) {
    const int64_t rows = (job.rows - row + groups - group - 1) / (groups - group);
    if (group + 1 < groups)
      fetch_inputs(job, row + rows, index);
    else if (index + 1 < job.blocks)
      fetch_inputs(job, 0, index + 1);
    const auto& multiply = group == 0 ? kMultiply<Weights, fetched> : kMultiply<Weights, Fetch::nothing>;
    multiply[rows - 1](w, job, row, index, next);
    row += rows;
  }
}

// The same for a block that is in the cache; `next` comes from memory after it.
template <class Weights>
void multiply_cached(const std::byte* w, const PanelJob& job, int64_t index, const std::byte* next) {
  if (job.rows <= kSomeRows)
    multiply_rows<Weights, Fetch::next>(w, job, index, next);
  else
    multiply_rows<Weights, Fetch::nothing>(w, job, index, next);
}

// Every block as it is stored.
template <class Weights>
void multiply_stored(const PanelJob& job) {
  for (int64_t index = 0; index < job.blocks; ++index) {
    const std::byte *block = job.panel + index * Weights::block_bytes, *next = block + Weights::block_bytes;
    if (job.rows <= kFewRows)
      multiply_rows<Weights, Fetch::ahead>(block, job, index, next);
    else
      multiply_cached<Weights>(block, job, index, next);
  }
}

void multiply_pairs(const PanelJob& job) {
  if (job.rows <= kRows) return multiply_stored<Pairs>(job);
  for (int64_t index = 0; index < job.blocks; ++index) {
    const std::byte* block = job.panel + index * Pairs::block_bytes;
    unpack_pairs(block, job.ahead, reinterpret_cast<float*>(job.scratch));
    multiply_cached<Floats>(job.scratch, job, index, block + Pairs::block_bytes);
  }
}

// Whether x * 2^(exponent - kBias - kCodeShift) is exact for a block's inputs and all usual exponents. Zeros are.
inline bool is_scalable(const float* x) {
  constexpr uint32_t smallest = 1u + Bfloat8::kBias + kCodeShift - kLeastExponent;  // exponent field
  constexpr uint32_t largest = 254u + Bfloat4::kBias + kCodeShift - kGreatestExponent;
  __m256i least = _mm256_set1_epi32(-1), greatest = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int k = 0; k < kBlock; k += 8) {
    const __m256i bits = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k)), _mm256_set1_epi32(0x7FFFFFFF));
    least = _mm256_min_epu32(least, _mm256_sub_epi32(bits, _mm256_set1_epi32(1)));  // 0 becomes the greatest
    greatest = _mm256_max_epu32(greatest, bits);
  }
  const __m256i floor = _mm256_set1_epi32(static_cast<int>((smallest << 23) - 1)),
                ceiling = _mm256_set1_epi32(static_cast<int>(largest << 23 | 0x7FFFFF));
  const __m256i inside = _mm256_and_si256(_mm256_cmpeq_epi32(_mm256_max_epu32(least, floor), least),
                                          _mm256_cmpeq_epi32(_mm256_min_epu32(greatest, ceiling), greatest));
  return _mm256_movemask_epi8(inside) == -1;
}

// One row by the block `index` of a panel with usual exponents, straight from its codes: the powers go to the row's inputs, which must be
// scalable and are fewer than the weights. The products are those of unpacked weights.
template <class Format>
void multiply_codes(const std::byte* block, const PanelJob& job, const float* x, int64_t index) {
  alignas(32) float scaled[4 * kBlock];
  read_powers<Format::kBias + kCodeShift>(block, x, scaled);
  __m256 sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sum[v] = _mm256_setzero_ps();
  Format::read(block, job.ahead, [&](int64_t k, int v, __m256 codes) __attribute__((always_inline)) {
    sum[v] = _mm256_fmadd_ps(codes, _mm256_broadcast_ss(scaled + v / 2 * kBlock + k), sum[v]);
  });
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) add_to(job.y + 8 * v, sum[v], index);
}

template <class Format>
void multiply_format(const PanelJob& job) {
  for (int64_t index = 0; index < job.blocks; ++index) {
    const std::byte* block = job.panel + index * Format::block_bytes;
    const float* x = static_cast<const float*>(job.x) + index * kBlock;
    if (job.rows == 1 && has_usual_exponents(block) && is_scalable(x)) {
      multiply_codes<Format>(block, job, x, index);
    } else {
      unpack_block<Format>(block, job.ahead, reinterpret_cast<float*>(job.scratch));
      multiply_cached<Floats>(job.scratch, job, index, block + Format::block_bytes);
    }
  }
}

}  // namespace

const LinearKernels kLinearAvx2{
    .bfloat16_rows = {},
    .float32_rows = {.float32 = multiply_stored<Floats>,
                     .bfloat16 = multiply_pairs,
                     .bfloat8_b = multiply_format<Bfloat8>,
                     .bfloat4_b = multiply_format<Bfloat4>},
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

// The linear with AVX2 and FMA: rows are float32. Weights are multiplied as they are stored while the rows' sums fit the registers (block
// formats: for one row), else unpacked, one block at a time, which stays in the L1 cache. The products, and so the sums, are the same
// either way.
//
// Block formats times rows that were bfloat16 are multiplied as whole numbers: vpmaddwd takes twice the inputs of a multiply-add, and a
// block's sum of products is exact. Both factors are small numbers times a power of two (DigitRows, Factors); what does not fit (lower
// digits, far weights: a few of a hundred) is added by itself.
#include <immintrin.h>

#include <cstring>

#include "cpu/kernels/linear_digits_avx2.h"
#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kRows = 6;       // that are multiplied together, at most
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

struct Bfloat8 {
  static constexpr int64_t block_bytes = 4352;
  static constexpr int kBias = 127 + 6;  // a weight is its code times 2^(exponent - kBias)
  static constexpr int kSpan = 4;        // of the exponents of weights that are multiplied as whole numbers

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

  // Whether `number` wants the factor of outputs 16n..16n+15 in a word's high byte or in its low one; the other byte is 0.
  static constexpr bool factor_is_high(int /*n*/) { return true; }
  static __m256i number(__m256i words, __m256i factor) { return _mm256_mulhi_epi16(words, factor); }

  // What `number` makes codes of outputs 8v..8v+7 for an input pair of, a word for each: the codes times 2^8.
  static __m256i words(const std::byte* block, int64_t pair, int v) {
    const __m256i bytes = numbers(block + 4 * kBlock + pair / 2 * 256 + v * 32), zero = _mm256_setzero_si256();
    return pair % 2 ? _mm256_unpackhi_epi8(zero, bytes) : _mm256_unpacklo_epi8(zero, bytes);
  }
  static __m256i numbers(const std::byte* line) {
    const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(line));
    return _mm256_sign_epi8(_mm256_and_si256(codes, _mm256_set1_epi8(0x7F)), codes);
  }

  // Calls take(pair, v, words) for all of a block.
  template <class Take>
  [[gnu::always_inline]] static void read_words(const std::byte* block, int64_t ahead, const Take& take) {
    const __m256i zero = _mm256_setzero_si256();
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; pair += 2)
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v, line += 32) {
        if (v % 2 == 0) fetch(line + ahead);
        const __m256i bytes = numbers(line);
        take(pair, v, _mm256_unpacklo_epi8(zero, bytes));
        take(pair + 1, v, _mm256_unpackhi_epi8(zero, bytes));
      }
  }
};

struct Bfloat4 {
  static constexpr int64_t block_bytes = 2304;
  static constexpr int kBias = 127 + 2;
  static constexpr int kSpan = 6;

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

  // A word has the codes of n = 0 and 2 or of n = 1 and 3, a byte each; where the factor is, is whose number comes out.
  static constexpr bool factor_is_high(int n) { return n >= 2; }
  static __m256i number(__m256i words, __m256i factor) { return _mm256_maddubs_epi16(factor, words); }

  static __m256i words(const std::byte* block, int64_t pair, int v) {
    return words(block + 4 * kBlock + pair * 64 + v % 2 * 32, v / 2 % 2);
  }
  static __m256i words(const std::byte* line, bool odd) {
    const __m256i number_of = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 0, -1, -2, -3, -4, -5, -6, -7));
    const __m256i codes = _mm256_load_si256(reinterpret_cast<const __m256i*>(line));
    return _mm256_shuffle_epi8(number_of, _mm256_and_si256(odd ? _mm256_srli_epi16(codes, 4) : codes, _mm256_set1_epi8(0x0F)));
  }

  template <class Take>
  [[gnu::always_inline]] static void read_words(const std::byte* block, int64_t ahead, const Take& take) {
    const std::byte* line = block + 4 * kBlock;
    for (int64_t pair = 0; pair < kPairs; ++pair, line += 64) {
      fetch(line + ahead);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m256i both = words(line + v % 2 * 32, v / 2);
        take(pair, v, both);
        take(pair, v + 4, both);
      }
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

inline __m256 add_scaled(__m256 y, __m256i sum, __m256 scale) { return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, y); }

// How a block of weights is multiplied, in steps that each take 4 bytes of a row: the weights of 8 outputs for one step, their sums, and
// what becomes of these.
struct FloatRows {
  using Vector = __m256;
  static constexpr int64_t steps = kBlock, input_bytes = kBlock * 4;
  static constexpr int64_t most_rows = kRows;
  static const std::byte* inputs(const PanelJob& job, int64_t row, int64_t index) {
    return static_cast<const std::byte*>(job.x) + (row * job.x_stride + index * kBlock) * 4;
  }
  static int64_t stride(const PanelJob& job) { return job.x_stride * 4; }
  static __m256 zero() { return _mm256_setzero_ps(); }
  static __m256 broadcast(const std::byte* input) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(input)); }
  static __m256 add_product(__m256 weights, __m256 input, __m256 sum) { return _mm256_fmadd_ps(weights, input, sum); }
  struct Scale {};
  static const float* scales(const PanelJob& /*job*/, int64_t /*row*/, int64_t /*index*/) { return nullptr; }
  static Scale scale(const std::byte* /*block*/, int64_t /*o*/, float /*of_row*/) { return {}; }
  static void add_to(float* y, __m256 sum, Scale /*none*/, bool first) {
    _mm256_storeu_ps(y, first ? sum : _mm256_add_ps(_mm256_loadu_ps(y), sum));
  }
};

struct Pairs : FloatRows {
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

struct Floats : FloatRows {
  static constexpr int64_t block_bytes = kBlock * kPanel * 4;
  static constexpr int64_t inputs_at_once = 1;
  static constexpr int three_rows_vectors = 4;
  static const std::byte* at(const std::byte* block, int64_t k, int64_t o) { return block + (k * kPanel + o) * 4; }
  static __m256 read(const std::byte* block, int64_t k, int64_t o) {
    return _mm256_load_ps(reinterpret_cast<const float*>(at(block, k, o)));
  }
};

// Sums that always join those in y.
struct AddedFloats : Floats {
  static void add_to(float* y, __m256 sum, Scale /*none*/, bool /*first*/) { _mm256_storeu_ps(y, _mm256_add_ps(_mm256_loadu_ps(y), sum)); }
};

// Rows and weights as whole numbers.
struct Words {
  using Vector = __m256i;
  static constexpr int64_t steps = kPairs, input_bytes = kBlock * 2;
  static constexpr int64_t block_bytes = sizeof(Numbers);
  static constexpr int64_t inputs_at_once = 1;
  static constexpr int three_rows_vectors = 2;
  static constexpr int64_t most_rows = 4;  // of more, the compiler would spill sums; no slower
  static const std::byte* inputs(const PanelJob& job, int64_t row, int64_t index) {
    return reinterpret_cast<const std::byte*>(digit_rows(job).digits(job.digits_first + row, index));
  }
  static int64_t stride(const PanelJob& /*job*/) { return kBlock * 2; }
  static const std::byte* at(const std::byte* block, int64_t pair, int64_t o) { return block + (pair * kPanel + o) * 4; }
  static __m256i read(const std::byte* block, int64_t pair, int64_t o) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(at(block, pair, o)));
  }
  static __m256i zero() { return _mm256_setzero_si256(); }
  static __m256i broadcast(const std::byte* input) {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(input)));
  }
  static __m256i add_product(__m256i weights, __m256i input, __m256i sum) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(weights, input));
  }
  using Scale = __m256;
  static const float* scales(const PanelJob& job, int64_t row, int64_t index) {
    return &digit_rows(job).scale(job.digits_first + row, index);
  }
  static __m256 scale(const std::byte* block, int64_t o, float of_row) {
    return _mm256_set1_ps(reinterpret_cast<const Numbers*>(block)->scale[o / 16] * of_row);
  }
  static void add_to(float* y, __m256i sum, __m256 scale, bool first) {
    _mm256_storeu_ps(y, add_scaled(first ? _mm256_setzero_ps() : _mm256_loadu_ps(y), sum, scale));
  }
};
static_assert(sizeof(Numbers) <= kScratchBytes && Floats::block_bytes <= kScratchBytes);

void unpack_pairs(const std::byte* block, int64_t ahead, float* to) {
  for (int64_t k = 0; k < kBlock; k += 2)
#pragma GCC unroll 8
    for (int64_t o = 0; o < kPanel; o += 8) {
      if (o % 16 == 0) fetch(Pairs::at(block, k, o) + ahead);
      _mm256_store_ps(to + k * kPanel + o, Pairs::read(block, k, o));
      _mm256_store_ps(to + (k + 1) * kPanel + o, Pairs::read(block, k + 1, o));
    }
}

// What is fetched from memory while a block is multiplied: what lies `job.ahead` bytes behind the line that is read; the lines from `next`
// on; or nothing, which leaves more of the processor to many rows.
enum class Fetch { ahead, next, nothing };

// Some rows by the block `index` of a panel, for 8 x vectors outputs at a time: rows x vectors sums stay in registers.
template <class Weights, int rows, int vectors, Fetch fetched>
void multiply_block(const std::byte* w, const PanelJob& job, int64_t row, int64_t index, const std::byte* next) {
  const int64_t stride = Weights::stride(job), y_stride = job.y_stride,
                ahead = job.ahead;  // read once: what is stored to y might be the job
  const std::byte* x = Weights::inputs(job, row, index);
  const float* scales = Weights::scales(job, row, index);
  float* y = job.y + row * y_stride;
  using Vector = typename Weights::Vector;
  for (int64_t o = 0; o < kPanel; o += 8 * vectors) {
    Vector sum[rows][vectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] = Weights::zero();
#pragma GCC unroll 2
    for (int64_t k = 0; k < Weights::steps; ++k) {
      if (fetched == Fetch::ahead && k % Weights::inputs_at_once == 0)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v += 2) fetch(Weights::at(w, k, o + 8 * v) + ahead);
      if (fetched == Fetch::next && k % (Weights::steps / kPairs) == 0) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
        next += 64;
      }
      // The smaller of the two factors' vectors is held in registers, beside the sums: there are only 16.
      Vector held[rows < vectors ? rows : vectors];
      if constexpr (rows < vectors) {
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) held[r] = Weights::broadcast(x + r * stride + 4 * k);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          const Vector value = Weights::read(w, k, o + 8 * v);
#pragma GCC unroll 6
          for (int r = 0; r < rows; ++r) sum[r][v] = Weights::add_product(value, held[r], sum[r][v]);
        }
      } else {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) held[v] = Weights::read(w, k, o + 8 * v);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
          const Vector input = Weights::broadcast(x + r * stride + 4 * k);
#pragma GCC unroll 8
          for (int v = 0; v < vectors; ++v) sum[r][v] = Weights::add_product(held[v], input, sum[r][v]);
        }
      }
    }
    typename Weights::Scale scale[rows][vectors / 2];  // read before anything is stored: the compiler must take y for its place
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v += 2) scale[r][v / 2] = Weights::scale(w, o + 8 * v, scales ? scales[r] : 0);
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) Weights::add_to(y + r * y_stride + o + 8 * v, sum[r][v], scale[r][v / 2], index == 0);
  }
}

// Inputs of the rows that are multiplied next, which no hardware foresees: a row's next inputs lie far from the next row's.
template <class Weights>
void fetch_inputs(const PanelJob& job, int64_t row, int64_t index) {
  const int64_t stride = Weights::stride(job);
  const std::byte* x = Weights::inputs(job, row, index);
  for (int64_t last = job.rows - row < Weights::most_rows ? job.rows : row + Weights::most_rows; row < last; ++row, x += stride)
    for (int64_t at = 0; at < Weights::input_bytes; at += 64) fetch(x + at);
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
  const int64_t groups = (job.rows + Weights::most_rows - 1) / Weights::most_rows;
  for (int64_t group = 0, row = 0; group < groups; ++group) {
    const int64_t rows = (job.rows - row + groups - group - 1) / (groups - group);
    if (group + 1 < groups)
      fetch_inputs<Weights>(job, row + rows, index);
    else if (index + 1 < job.blocks)
      fetch_inputs<Weights>(job, 0, index + 1);
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

// One row as float32 by the block `index` of a panel with usual exponents, straight from its codes: the powers go to the row's inputs,
// which must be scalable and are fewer than the weights. The products are those of unpacked weights.
template <class Format>
void multiply_codes_as_floats(const std::byte* block, const PanelJob& job, const float* x, int64_t index) {
  alignas(32) float scaled[4 * kBlock];
  read_powers<Format::kBias + kCodeShift>(block, x, scaled);
  __m256 sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sum[v] = _mm256_setzero_ps();
  Format::read(block, job.ahead, [&](int64_t k, int v, __m256 codes) __attribute__((always_inline)) {
    sum[v] = _mm256_fmadd_ps(codes, _mm256_broadcast_ss(scaled + v / 2 * kBlock + k), sum[v]);
  });
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) FloatRows::add_to(job.y + 8 * v, sum[v], {}, index == 0);
}

inline __m256i broadcast_pair(const void* pair) { return Words::broadcast(static_cast<const std::byte*>(pair)); }

// Calls add(v, products, scale) with what lower digits add to outputs 8v..8v+7 of a row; read(v) has these outputs' numbers for their pair.
template <class Read, class Add>
[[gnu::always_inline]] inline void add_lower(const LowerDigits& lower, const float (&scale)[4], const Read& read, const Add& add) {
  const __m256i inputs = broadcast_pair(lower.digits);
  const __m256 scales =
      _mm256_mul_ps(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(scale)), _mm256_set1_ps(power_of_two(lower.exponent)));
  const __m256 of_group[4] = {_mm256_permute_ps(scales, 0x00), _mm256_permute_ps(scales, 0x55), _mm256_permute_ps(scales, 0xAA),
                              _mm256_permute_ps(scales, 0xFF)};
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) add(v, Words::add_product(read(v), inputs, Words::zero()), of_group[v / 2]);
}

// Calls take(piece, its lower digits, its first row in the job) for each piece of the rows' digits for a block.
template <class Take>
[[gnu::always_inline]] inline void for_pieces(const PanelJob& job, int64_t index, const Take& take) {
  const DigitRows digits = digit_rows(job);
  for (int64_t row = 0; row < job.rows; row += kDigitsPiece) {
    const int64_t piece = (job.digits_first + row) / kDigitsPiece;
    take(digits.piece(piece, index), digits.lower(piece), row);
  }
}

// What the far weights add to the rows that are whole numbers.
template <class Format>
void add_far_weights(const std::byte* block, const Factors& factors, const PanelJob& job, int64_t index) {
  const DigitRows digits = digit_rows(job);
  for (int64_t i = 0; i < factors.far_count; ++i) {
    const auto [n, k] = factors.far[i];
    const __m256 power = _mm256_set1_ps(power_of_two(static_cast<uint32_t>(block[n * kBlock + k]) - Format::kBias + 127));
    const float* x = static_cast<const float*>(job.x) + index * kBlock + k;
    for (int half = 0; half < 2; ++half) {
      const __m256i one = _mm256_set1_epi16(Format::factor_is_high(n) ? 1 << 8 : 1);
      const __m256i pair = Format::number(Format::words(block, k / 2, 2 * n + half), one);
      const __m256i codes = _mm256_srai_epi32(k % 2 ? pair : _mm256_slli_epi32(pair, 16), 16);
      const __m256 weights = _mm256_mul_ps(_mm256_cvtepi32_ps(codes), power);
      float* y = job.y + 16 * n + 8 * half;
      for (int64_t row = 0; row < job.rows; ++row, y += job.y_stride)
        if (digits.scale(job.digits_first + row, index) != 0)
          _mm256_storeu_ps(y, _mm256_fmadd_ps(weights, _mm256_set1_ps(x[row * job.x_stride]), _mm256_loadu_ps(y)));
    }
  }
}

// The rows whose inputs are no whole numbers.
template <class Format>
void add_inexact_rows(const std::byte* block, const PanelJob& job, int64_t index) {
  bool unpacked = false;
  for_pieces(job, index, [&](const DigitRows::Piece& piece, const LowerDigits* /*lower*/, int64_t first) {
    for (int64_t rows = piece.inexact; rows; rows &= rows - 1) {
      if (!unpacked) unpack_block<Format>(block, 0, reinterpret_cast<float*>(job.scratch));
      unpacked = true;
      multiply_block<AddedFloats, 1, 8, Fetch::nothing>(job.scratch, job, first + __builtin_ctzll(static_cast<uint64_t>(rows)), index,
                                                        nullptr);
    }
  });
}

template <class Format>
inline __m256i number(__m256i words, const Factors& factors, int64_t pair, int v) {
  return Format::number(words, broadcast_pair(&factors.of_input[v / 2][2 * pair]));
}

// The sums of a block's outputs for a row's digits. Not inlined: beside what its caller needs, the sums would not stay in registers.
template <class Format>
[[gnu::noinline]] void sum_codes(const std::byte* block, int64_t ahead, const Factors& factors, const int16_t* digits, __m256i (&sums)[8]) {
  __m256i sum[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sum[v] = Words::zero();
  Format::read_words(block, ahead, [&](int64_t pair, int v, __m256i words) __attribute__((always_inline)) {
    sum[v] = Words::add_product(number<Format>(words, factors, pair, v), broadcast_pair(digits + 2 * pair), sum[v]);
  });
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) sums[v] = sum[v];
}

// One row by a block, straight from its codes.
template <class Format>
void multiply_codes(const std::byte* block, const Factors& factors, const PanelJob& job, int64_t index) {
  const float row_scale = digit_rows(job).scale(job.digits_first, index);
  __m256i sum[8];
  sum_codes<Format>(block, job.ahead, factors, digit_rows(job).digits(job.digits_first, index), sum);
  __m256 y[8];
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v)
    y[v] = add_scaled(index == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(job.y + 8 * v), sum[v],
                      _mm256_set1_ps(factors.scale[v / 2] * row_scale));
  for_pieces(job, index, [&](const DigitRows::Piece& piece, const LowerDigits* lower, int64_t /*first*/) {
    for (int64_t i = piece.first; i < piece.first + piece.count; ++i) {
      const int64_t pair = lower[i].pair;
      add_lower(
          lower[i], factors.scale,
          [&](int v) __attribute__((always_inline)) { return number<Format>(Format::words(block, pair, v), factors, pair, v); },
          [&](int v, __m256i products, __m256 scale) __attribute__((always_inline)) { y[v] = add_scaled(y[v], products, scale); });
    }
  });
#pragma GCC unroll 8
  for (int v = 0; v < 8; ++v) _mm256_storeu_ps(job.y + 8 * v, y[v]);
}

// Rows by a block that becomes whole numbers in the cache.
template <class Format>
void multiply_numbers(const std::byte* block, const Factors& factors, const PanelJob& job, int64_t index) {
  Numbers& numbers = *reinterpret_cast<Numbers*>(job.scratch);
  std::memcpy(numbers.scale, factors.scale, sizeof numbers.scale);
  Format::read_words(block, job.ahead, [&](int64_t pair, int v, __m256i words) __attribute__((always_inline)) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(numbers.pairs[pair]) + v, number<Format>(words, factors, pair, v));
  });
  multiply_cached<Words>(job.scratch, job, index, block + Format::block_bytes);
  float* const y = job.y;
  const int64_t y_stride = job.y_stride;
  for_pieces(job, index, [&](const DigitRows::Piece& piece, const LowerDigits* lower, int64_t first) {
    for (int64_t i = piece.first, last = piece.first + piece.count; i < last; ++i) {
      const auto* of_pair = reinterpret_cast<const __m256i*>(numbers.pairs[lower[i].pair]);
      float* const to = y + (first + lower[i].row) * y_stride;
      add_lower(
          lower[i], numbers.scale, [&](int v) __attribute__((always_inline)) { return _mm256_load_si256(of_pair + v); },
          [&](int v, __m256i products, __m256 scale) __attribute__((always_inline)) { Words::add_to(to + 8 * v, products, scale, false); });
    }
  });
}

template <class Format>
void multiply_block_as_floats(const std::byte* block, const PanelJob& job, int64_t index) {
  const float* x = static_cast<const float*>(job.x) + index * kBlock;
  if (job.rows == 1 && has_usual_exponents(block) && is_scalable(x)) {
    multiply_codes_as_floats<Format>(block, job, x, index);
  } else {
    unpack_block<Format>(block, job.ahead, reinterpret_cast<float*>(job.scratch));
    multiply_cached<Floats>(job.scratch, job, index, block + Format::block_bytes);
  }
}

template <class Format>
void multiply_block_as_numbers(const std::byte* block, const Factors& factors, const PanelJob& job, int64_t index) {
  if (job.rows == 1)
    multiply_codes<Format>(block, factors, job, index);
  else
    multiply_numbers<Format>(block, factors, job, index);
  if (factors.far_count) [[unlikely]]
    add_far_weights<Format>(block, factors, job, index);
  add_inexact_rows<Format>(block, job, index);
}

// Block by block, as whole numbers where the rows have digits and the weights' exponents allow it, else as float32.
template <class Format>
void multiply_format(const PanelJob& job) {
  for (int64_t index = 0; index < job.blocks; ++index) {
    const std::byte* block = job.panel + index * Format::block_bytes;
    for (int n = 0; n < 4; ++n) fetch(block + n * kBlock + job.ahead);  // the codes' lines are fetched where they are read
    Factors factors;
    if (job.digits && read_factors<Format>(block, factors))
      multiply_block_as_numbers<Format>(block, factors, job, index);
    else
      multiply_block_as_floats<Format>(block, job, index);
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
    .digits_bytes = digits_bytes,
    .make_digits = make_digits,
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

// What AVX2's linear makes of rows and of block formats' exponents to multiply them as whole numbers. Included once, by linear_avx2.cpp;
// everything internal to it.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "cpu/kernels/linear_kernels.h"

namespace tessera::cpu {
namespace {

constexpr int64_t kPairs = kBlock / 2;

// Blocks whose exponents all lie in here are multiplied by codes and powers of two, for both stay normal numbers; others, which no
// checkpoint is known to have, are unpacked in two steps.
constexpr int kLeastExponent = 97, kGreatestExponent = 224;

inline float power_of_two(uint32_t exponent_field) { return __builtin_bit_cast(float, exponent_field << 23); }

inline int greatest_of(__m256i numbers) {
  __m128i greatest = _mm_max_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256(numbers, 1));
  greatest = _mm_max_epi32(greatest, _mm_shuffle_epi32(greatest, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(greatest, _mm_shuffle_epi32(greatest, 0xB1)));
}

inline float sum_of(__m256 numbers) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(numbers), _mm256_extractf128_ps(numbers, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

// The greatest byte, in every byte.
inline __m256i greatest_byte(__m256i bytes) {
  __m128i greatest = _mm_max_epu8(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
  greatest = _mm_max_epu8(greatest, _mm_srli_epi16(greatest, 8));  // of each word, in its low byte
  const __m128i least = _mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(255), _mm_and_si128(greatest, _mm_set1_epi16(255))));
  return _mm256_broadcastb_epi8(_mm_sub_epi8(_mm_set1_epi8(-1), least));
}

// What is left of an input pair of a row, or of what is left of that: digits * 2^(exponent - 127).
struct LowerDigits {
  int16_t digits[2];
  uint8_t exponent, pair;
  uint16_t row;  // of its piece
};

constexpr int64_t kPlaces = 3;  // of digits in all
constexpr int kPlaceBits = 14;  // a place is so much smaller than the one above

// Rows as whole numbers: a block of 64 inputs of a row is digits * scale and what its lower digits add. Exactly, and sums of products with
// Numbers fit 32 bits. Where that can't be, digits and scale are 0, and the block is multiplied as float32.
class DigitRows {
 public:
  struct Piece {           // a block of kDigitsPiece rows
    int64_t first, count;  // of its lower digits, among the piece's
    int64_t inexact;       // rows to be multiplied as float32, a bit each
  };

  DigitRows(const void* memory, int64_t rows, int64_t blocks)
      : rows_(rows),
        blocks_(blocks),
        pieces_((rows + kDigitsPiece - 1) / kDigitsPiece),
        memory_(static_cast<std::byte*>(const_cast<void*>(memory))) {}

  int64_t bytes() const { return lower_at() + pieces_ * blocks_ * kLowerOfBlock * static_cast<int64_t>(sizeof(LowerDigits)); }
  int16_t* digits(int64_t row, int64_t block) const { return reinterpret_cast<int16_t*>(memory_) + (block * rows_ + row) * kBlock; }
  float& scale(int64_t row, int64_t block) const { return reinterpret_cast<float*>(memory_ + scale_at())[block * rows_ + row]; }
  Piece& piece(int64_t piece, int64_t block) const { return reinterpret_cast<Piece*>(memory_ + pieces_at())[block * pieces_ + piece]; }
  LowerDigits* lower(int64_t piece) const { return reinterpret_cast<LowerDigits*>(memory_ + lower_at()) + piece * blocks_ * kLowerOfBlock; }

 private:
  static constexpr int64_t kLowerOfBlock = kDigitsPiece * (kPlaces - 1) * kPairs;  // at most; of this memory little is ever touched
  int64_t scale_at() const { return blocks_ * rows_ * kBlock * 2; }
  int64_t pieces_at() const { return scale_at() + (blocks_ * rows_ + 1) / 2 * 8; }
  int64_t lower_at() const { return pieces_at() + blocks_ * pieces_ * static_cast<int64_t>(sizeof(Piece)); }

  int64_t rows_, blocks_, pieces_;
  std::byte* memory_;
};

inline DigitRows digit_rows(const PanelJob& job) { return {job.digits, job.digits_rows, job.blocks}; }

// A block of weights as whole numbers, for input pairs: value * scale of its 16 outputs.
struct Numbers {
  alignas(64) int16_t pairs[kPairs][2 * kPanel];
  float scale[4];
};

// The greatest sum of the magnitudes of a block's digits at one place with which no sum of products leaves 32 bits: of (2^31 - 1) / (127 *
// 2^4) = 1,056,831, where the divisor is the greatest number; it is compared with a rounded sum.
constexpr float kGreatestSum = 1'056'000;
static_assert((kBlock << kPlaceBits) < kGreatestSum);
// Exponent fields of a block's largest input with which all scales are normal numbers, and scaling loses no digit of the smallest bfloat16.
constexpr uint32_t kLeastInput = 86, kGreatestInput = 156;

// A block of a row; its lower digits go to `lower`. Returns their number, or -1 if the block is to be multiplied as float32: its inputs are
// too large or too small, or digits are left below all places.
int64_t split_block(const float* x, int16_t* digits, float& scale, LowerDigits* lower, int64_t row) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  __m256i greatest = _mm256_setzero_si256();
  __m256 sum = _mm256_setzero_ps();
#pragma GCC unroll 8
  for (int k = 0; k < kBlock; k += 8) {
    const __m256 value = _mm256_and_ps(_mm256_loadu_ps(x + k), magnitude);
    greatest = _mm256_max_epi32(greatest, _mm256_castps_si256(value));
    sum = _mm256_add_ps(sum, value);
  }
  const uint32_t largest = static_cast<uint32_t>(greatest_of(greatest)), field = largest >> 23;
  const auto no_digits = [&](int64_t result) {
    std::memset(digits, 0, kBlock * sizeof *digits);
    scale = 0;
    return result;
  };
  if (field < kLeastInput || field > kGreatestInput) return no_digits(largest == 0 ? 0 : -1);
  // The largest magnitude becomes 2^14 to 2^15; half of that if the sums could leave 32 bits.
  uint32_t exponent = 127 + field - 141;
  if (sum_of(sum) * power_of_two(254 - exponent) > kGreatestSum) ++exponent;
  scale = power_of_two(exponent);
  alignas(32) float rest[kBlock];
  alignas(32) int16_t below[kBlock];
  const float* from = x;
  __m256 factor = _mm256_set1_ps(power_of_two(254 - exponent));
  int64_t count = 0;
  for (int place = 0; place < kPlaces; ++place, exponent -= kPlaceBits) {
    int16_t* const words = place == 0 ? digits : below;
    uint32_t pairs = 0;
    __m256 left = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int k = 0; k < kBlock; k += 16) {
      __m256i digit[2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256 value = _mm256_mul_ps(_mm256_loadu_ps(from + k + 8 * half), factor);
        digit[half] = _mm256_cvttps_epi32(value);
        const __m256 rest_of = _mm256_sub_ps(value, _mm256_cvtepi32_ps(digit[half]));
        _mm256_store_ps(rest + k + 8 * half, rest_of);
        left = _mm256_or_ps(left, rest_of);
      }
      const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(digit[0], digit[1]), 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + k), both);
      const int zeros = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(both, _mm256_setzero_si256())));
      pairs |= static_cast<uint32_t>(~zeros & 0xFF) << k / 2;
    }
    for (; place > 0 && pairs; pairs &= pairs - 1) {
      const int pair = __builtin_ctz(pairs);
      lower[count++] = {.digits = {below[2 * pair], below[2 * pair + 1]},
                        .exponent = static_cast<uint8_t>(exponent),
                        .pair = static_cast<uint8_t>(pair),
                        .row = static_cast<uint16_t>(row)};
    }
    if (_mm256_testz_si256(_mm256_castps_si256(left), _mm256_castps_si256(magnitude))) return count;
    from = rest;
    factor = _mm256_set1_ps(1 << kPlaceBits);
  }
  return no_digits(-1);
}

int64_t digits_bytes(int64_t rows, int64_t blocks) { return DigitRows(nullptr, rows, blocks).bytes(); }

void make_digits(const float* x, int64_t x_stride, int64_t rows, int64_t blocks, int64_t piece, std::byte* to) {
  const DigitRows all(to, rows, blocks);
  const int64_t first = piece * kDigitsPiece, last = first + kDigitsPiece < rows ? first + kDigitsPiece : rows;
  int64_t count = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    DigitRows::Piece& part = all.piece(piece, block);
    part = {count, 0, 0};
    for (int64_t row = first; row < last; ++row) {
      const int64_t lower = split_block(x + (row - first) * x_stride + block * kBlock, all.digits(row, block), all.scale(row, block),
                                        all.lower(piece) + count, row - first);
      if (lower < 0)
        part.inexact |= 1 << (row - first);
      else
        count += lower;
    }
    part.count = count - part.first;
  }
}

// What makes a block's codes whole numbers: for each group of 16 outputs and input 2^(kSpan - d), where d is how far its exponent lies
// below the group's greatest, in the byte where Format::number wants it; and the scale of the group's numbers. Where d is greater than
// kSpan, the factor is 0, and the 16 weights are far ones: multiplied as float32.
struct Factors {
  static constexpr int64_t kMostFar = 16;
  struct Far {
    int32_t group, input;
  };
  alignas(32) uint16_t of_input[4][kBlock];
  float scale[4];
  Far far[kMostFar];
  int64_t far_count;
};

// False: there are more far weights than these, or the scales would not be normal numbers.
template <class Format>
bool read_factors(const std::byte* block, Factors& factors) {
  const auto power = [](int d) { return static_cast<char>(d > Format::kSpan ? 0 : 1 << (Format::kSpan - d)); };
  const __m256i powers = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(power(0), power(1), power(2), power(3), power(4), power(5), power(6), 0, 0, 0, 0, 0, 0, 0, 0, 0));
  const __m256i zero = _mm256_setzero_si256(), last = _mm256_set1_epi8(Format::kSpan + 1);
  __m256i distances[4][2], farthest = zero;
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    const __m256i* exponents = reinterpret_cast<const __m256i*>(block + n * kBlock);
    const __m256i halves[2] = {_mm256_load_si256(exponents), _mm256_load_si256(exponents + 1)};
    const __m256i most = greatest_byte(_mm256_max_epu8(halves[0], halves[1]));
    const int greatest = _mm256_extract_epi8(most, 0) & 0xFF;
    if (greatest > kGreatestExponent || greatest < kLeastExponent) return false;
    factors.scale[n] = power_of_two(static_cast<uint32_t>(greatest - Format::kBias - Format::kSpan + 127));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256i distance = _mm256_min_epu8(_mm256_sub_epi8(most, halves[half]), last);
      distances[n][half] = distance;
      farthest = _mm256_max_epu8(farthest, distance);
      const __m256i bytes = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(powers, distance), 0xD8);
      const bool is_high = Format::factor_is_high(n);
      const __m256i low = is_high ? zero : bytes, high = is_high ? bytes : zero;
      _mm256_store_si256(reinterpret_cast<__m256i*>(factors.of_input[n]) + 2 * half, _mm256_unpacklo_epi8(low, high));
      _mm256_store_si256(reinterpret_cast<__m256i*>(factors.of_input[n]) + 2 * half + 1, _mm256_unpackhi_epi8(low, high));
    }
  }
  factors.far_count = 0;
  if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(farthest, last)) == 0) [[likely]]
    return true;
  for (int n = 0; n < 4; ++n)
    for (int half = 0; half < 2; ++half)
      for (auto far = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(distances[n][half], last))); far; far &= far - 1) {
        if (factors.far_count == Factors::kMostFar) return false;
        factors.far[factors.far_count++] = {n, 32 * half + __builtin_ctz(far)};
      }
  return true;
}

}  // namespace
}  // namespace tessera::cpu

#pragma once
// Eight float32 lanes on AVX2, FMA and F16C: what rows_simd.h and attention_simd.h are written in. For *_avx2.cpp alone.
#include <immintrin.h>

#include <cstdint>

namespace tessera::cpu {
namespace {

using Vec = __m256;
constexpr int kLanes = 8;
struct AllLanes {};

inline __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

inline Vec set(float x) { return _mm256_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
// b if either is NaN.
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
// x * 2^n for whole n in [-252, 254], by two factors: one alone could not be a float32.
inline Vec scale_by_power(Vec x, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n), bias = _mm256_set1_epi32(127);
  const __m256i first = _mm256_srai_epi32(whole, 1), second = _mm256_sub_epi32(whole, first);
  x = mul(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23)));
  return mul(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23)));
}
// a < b ? x : y, lane by lane.
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }

// A load of the first n lanes leaves the others 0 and touches nothing behind them.
inline Vec load(const float* p, AllLanes) { return _mm256_loadu_ps(p); }
inline Vec load(const float* p, int n) { return _mm256_maskload_ps(p, first_lanes(n)); }
inline Vec load(const uint16_t* p, AllLanes) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
inline Vec load(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes, AllLanes{});
}

// To nearest even; a NaN stays a NaN.
inline __m128i narrowed(Vec x) {
  const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd), 16);
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
}
inline void store(float* p, Vec x, AllLanes) { _mm256_storeu_ps(p, x); }
inline void store(float* p, Vec x, int n) { _mm256_maskstore_ps(p, first_lanes(n), x); }
inline void store(uint16_t* p, Vec x, AllLanes) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrowed(x)); }
inline void store(uint16_t* p, Vec x, int n) {
  uint16_t lanes[kLanes];
  store(lanes, x, AllLanes{});
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

// Words: float32 or a pair of bfloat16 each.
inline Vec set_word(uint32_t word) { return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(word))); }
inline Vec load_words(const uint32_t* p, AllLanes) { return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load_words(const uint32_t* p, int n) {
  return _mm256_castsi256_ps(_mm256_maskload_epi32(reinterpret_cast<const int*>(p), first_lanes(n)));
}
inline Vec bits_of_both(Vec a, Vec b) { return _mm256_and_ps(a, b); }
inline Vec low_halves(Vec pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16)); }
inline Vec high_halves(Vec pairs) { return _mm256_and_ps(pairs, set_word(0xFFFF0000u)); }
// A row's bfloat16 numbers are kept as float32, one a word: each meets many pairs, and taking it apart for each would cost as much as a
// product.
constexpr int kRowPack = 1;
struct RowPair {
  Vec low, high;
};
inline RowPair row_pair(const uint32_t* words) { return {set_word(words[0]), set_word(words[1])}; }
// sum + both products.
inline Vec dot_pairs(Vec sum, Vec pairs, RowPair x) { return fma(high_halves(pairs), x.high, fma(low_halves(pairs), x.low, sum)); }
// The lanes as a row's bfloat16 numbers, to nearest even.
inline void store_row(uint32_t* words, Vec x) {
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(narrowed(x)), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), bits);
}
// Lane i of x where begin <= i < end, else of other.
inline Vec keep_lanes(Vec x, int begin, int end, Vec other) {
  if (begin <= 0 && end >= kLanes) return x;
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane), inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane);
  return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_andnot_si256(before, inside)));
}

// Halves added to halves, the same tree always.
inline float sum(Vec x) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float max_of(Vec x) {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
inline float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
}  // namespace tessera::cpu

#pragma once
// Sixteen float32 lanes on AVX-512: what rows_simd.h and attention_simd.h are written in. For *_avx512.cpp alone.
#include <immintrin.h>

#include <cstdint>

namespace tessera::cpu {
namespace {

using Vec = __m512;
constexpr int kLanes = 16;
struct AllLanes {};

inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline Vec set(float x) { return _mm512_set1_ps(x); }
inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// b if either is NaN.
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec round(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Vec abs(Vec a) { return _mm512_abs_ps(a); }
// x * 2^n for whole n.
inline Vec scale_by_power(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }
// a < b ? x : y, lane by lane.
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x); }
// Bit i: lane i of a equals that of b.

// A load of the first n lanes leaves the others 0 and touches nothing behind them.
inline Vec load(const float* p, AllLanes) { return _mm512_loadu_ps(p); }
inline Vec load(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline Vec widened(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline Vec load(const uint16_t* p, AllLanes) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vec load(const uint16_t* p, int n) { return widened(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }

// To nearest even, denormals kept (vcvtneps2bf16 would drop them), a NaN stays a NaN.
inline __m256i narrowed(Vec x) {
  const __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd), 16);
  const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, quiet));
}
inline void store(float* p, Vec x, AllLanes) { _mm512_storeu_ps(p, x); }
inline void store(float* p, Vec x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }
inline void store(uint16_t* p, Vec x, AllLanes) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed(x)); }
inline void store(uint16_t* p, Vec x, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrowed(x)); }

// Words: float32 or a pair of bfloat16 each.
inline Vec set_word(uint32_t word) { return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(word))); }
inline Vec load_words(const uint32_t* p, AllLanes) { return _mm512_loadu_ps(p); }
inline Vec load_words(const uint32_t* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline Vec bits_of_both(Vec a, Vec b) { return _mm512_and_ps(a, b); }
inline Vec low_halves(Vec pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16)); }
inline Vec high_halves(Vec pairs) { return _mm512_and_ps(pairs, set_word(0xFFFF0000u)); }
// A row's bfloat16 numbers lie in pairs.
constexpr int kRowPack = 2;
inline Vec row_pair(const uint32_t* words) { return set_word(*words); }
// sum + both products; denormals count as 0.
inline Vec dot_pairs(Vec sum, Vec pairs, Vec x) { return _mm512_dpbf16_ps(sum, (__m512bh)pairs, (__m512bh)x); }
// The lanes as a row's bfloat16 numbers, to nearest even; denormals become 0.
inline void store_row(uint32_t* words, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), (__m256i)_mm512_cvtneps_pbh(x)); }
// Lane i of x where begin <= i < end, else of other.
inline Vec keep_lanes(Vec x, int begin, int end, Vec other) {
  if (begin <= 0 && end >= kLanes) return x;
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __mmask16 behind = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(begin));
  return _mm512_mask_blend_ps(_mm512_mask_cmplt_epi32_mask(behind, lane, _mm512_set1_epi32(end)), other, x);
}

// Halves added to halves, the same tree always.
inline float sum(Vec x) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
inline float max_of(Vec x) { return _mm512_reduce_max_ps(x); }
inline float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
}  // namespace tessera::cpu

#pragma once
// AVX-512's intrinsics computed by SIMDe, for machines that lack them: the preset `emulated` has *_avx512.cpp find this header first.
// What SIMDe 0.7.4 lacks, or computes otherwise than the processor does (vdpbf16ps and vcvtneps2bf16 take denormals for 0), is written
// here as a loop over the lanes, after Intel's descriptions of the instructions.
#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace tessera::emulated {

template <class To, class From>
To bits_of(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T, int n>
struct Lanes {
  T lane[n];
};
using Floats = Lanes<float, 16>;
using Ints = Lanes<int32_t, 16>;
using Words = Lanes<uint32_t, 16>;

template <class To, class From, int n>
Lanes<To, n> converted(const Lanes<From, n>& from) {
  Lanes<To, n> to;
  for (int i = 0; i < n; ++i) to.lane[i] = static_cast<To>(from.lane[i]);
  return to;
}

// The lanes of the mask; the others are 0, and their memory is not touched.
template <class T>
Lanes<T, 16> masked_load(uint32_t mask, const T* from) {
  Lanes<T, 16> to{};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) to.lane[i] = from[i];
  return to;
}

template <class T>
void masked_store(T* to, uint32_t mask, const Lanes<T, 16>& from) {
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) to[i] = from.lane[i];
}

template <class Compare>
simde__mmask16 compared(simde__m512i a, simde__m512i b, const Compare& compare) {
  const Ints x = bits_of<Ints>(a), y = bits_of<Ints>(b);
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<uint32_t>(compare(x.lane[i], y.lane[i])) << i;
  return static_cast<simde__mmask16>(mask);
}

inline float without_denormals(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
inline float bfloat16(uint32_t bits) { return without_denormals(std::bit_cast<float>(bits << 16)); }

inline simde__m512 maskz_loadu_ps(simde__mmask16 mask, const void* from) {
  return bits_of<simde__m512>(masked_load(mask, static_cast<const float*>(from)));
}
inline void mask_storeu_ps(void* to, simde__mmask16 mask, simde__m512 x) {
  masked_store(static_cast<float*>(to), mask, bits_of<Floats>(x));
}
inline __m256i maskz_loadu_epi16(simde__mmask16 mask, const void* from) {
  return bits_of<__m256i>(masked_load(mask, static_cast<const uint16_t*>(from)));
}
inline void mask_storeu_epi16(void* to, simde__mmask16 mask, __m256i x) {
  masked_store(static_cast<uint16_t*>(to), mask, bits_of<Lanes<uint16_t, 16>>(x));
}
inline simde__m512i cvtepu8_epi16(__m256i x) { return bits_of<simde__m512i>(converted<uint16_t>(bits_of<Lanes<uint8_t, 32>>(x))); }
inline simde__m512i cvtepu16_epi32(__m256i x) { return bits_of<simde__m512i>(converted<uint32_t>(bits_of<Lanes<uint16_t, 16>>(x))); }
inline __m256i cvtepi32_epi16(simde__m512i x) { return bits_of<__m256i>(converted<uint16_t>(bits_of<Words>(x))); }
inline simde__mmask16 mask_cmplt_epi32(simde__mmask16 mask, simde__m512i a, simde__m512i b) {
  return static_cast<simde__mmask16>(mask & compared(a, b, [](int32_t x, int32_t y) { return x < y; }));
}
inline simde__mmask16 cmpge_epi32(simde__m512i a, simde__m512i b) {
  return compared(a, b, [](int32_t x, int32_t y) { return x >= y; });
}
inline __m256 extractf32x8(simde__m512 x, int half) { return _mm256_loadu_ps(bits_of<Floats>(x).lane + 8 * half); }
inline float reduce_max(simde__m512 x) {
  const Floats from = bits_of<Floats>(x);
  float most = from.lane[0];
  for (float lane : from.lane) most = lane > most ? lane : most;
  return most;
}

// The product of the higher halves is added first, then that of the lower ones; each sum is rounded to nearest even.
inline simde__m512 dpbf16(simde__m512 sums, simde__m512bh a, simde__m512bh b) {
  const Words x = bits_of<Words>(a), y = bits_of<Words>(b);
  Floats sum = bits_of<Floats>(sums);
  for (int i = 0; i < 16; ++i) {
    const float high = std::fma(bfloat16(x.lane[i] >> 16), bfloat16(y.lane[i] >> 16), without_denormals(sum.lane[i]));
    const float both = std::fma(bfloat16(x.lane[i] & 0xFFFF), bfloat16(y.lane[i] & 0xFFFF), without_denormals(high));
    sum.lane[i] = without_denormals(both);
  }
  return bits_of<simde__m512>(sum);
}

inline simde__m256bh cvtneps(simde__m512 x) {
  const Floats from = bits_of<Floats>(x);
  Lanes<uint16_t, 16> to;
  for (int i = 0; i < 16; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(without_denormals(from.lane[i]));
    const uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1), quiet = bits | 0x400000;
    to.lane[i] = static_cast<uint16_t>((std::isnan(from.lane[i]) ? quiet : rounded) >> 16);
  }
  return bits_of<simde__m256bh>(to);
}

}  // namespace tessera::emulated

#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm256_maskz_loadu_epi16
#undef _mm256_mask_storeu_epi16
#undef _mm512_cvtepu8_epi16
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_epi16
#undef _mm512_mask_cmplt_epi32_mask
#undef _mm512_cmpge_epi32_mask
#undef _mm512_extractf32x8_ps
#undef _mm512_reduce_max_ps
#undef _mm512_dpbf16_ps
#undef _mm512_cvtneps_pbh
#define _mm512_maskz_loadu_ps tessera::emulated::maskz_loadu_ps
#define _mm512_mask_storeu_ps tessera::emulated::mask_storeu_ps
#define _mm256_maskz_loadu_epi16 tessera::emulated::maskz_loadu_epi16
#define _mm256_mask_storeu_epi16 tessera::emulated::mask_storeu_epi16
#define _mm512_cvtepu8_epi16 tessera::emulated::cvtepu8_epi16
#define _mm512_cvtepu16_epi32 tessera::emulated::cvtepu16_epi32
#define _mm512_cvtepi32_epi16 tessera::emulated::cvtepi32_epi16
#define _mm512_mask_cmplt_epi32_mask tessera::emulated::mask_cmplt_epi32
#define _mm512_cmpge_epi32_mask tessera::emulated::cmpge_epi32
#define _mm512_extractf32x8_ps tessera::emulated::extractf32x8
#define _mm512_reduce_max_ps tessera::emulated::reduce_max
#define _mm512_dpbf16_ps tessera::emulated::dpbf16
#define _mm512_cvtneps_pbh tessera::emulated::cvtneps

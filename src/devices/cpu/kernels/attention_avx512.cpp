#include "cpu/kernels/simd_avx512.h"

namespace tessera::cpu {
namespace {

// The bfloat16 of a magnitude of bfloat8_b under the exponent 255, by its two bytes.
struct Magnitudes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];

  constexpr Magnitudes() : low{}, high{} {
    for (unsigned m = 1; m < 128; ++m) {
      unsigned shift = 0;
      while (((m << shift) & 64) == 0) ++shift;
      const unsigned bits = (255 - shift) << 7 | ((m << shift) & 63) << 1;
      low[m] = static_cast<uint8_t>(bits);
      high[m] = static_cast<uint8_t>(bits >> 8);
    }
  }
};
constexpr Magnitudes kMagnitudes;

// 64 codes to 32 pairs; excess is taken off their exponents, 0 stays 0.
inline void unpack_line(const uint8_t* codes, const uint32_t* excess, uint32_t* pairs) {
  const __m512i low0 = _mm512_load_si512(kMagnitudes.low), low1 = _mm512_load_si512(kMagnitudes.low + 64);
  const __m512i high0 = _mm512_load_si512(kMagnitudes.high), high1 = _mm512_load_si512(kMagnitudes.high + 64);
  // Quarters of eight bytes are placed so that the unpacks below, which work in 16 bytes each, give the pairs in order.
  const __m512i line = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7), _mm512_loadu_si512(codes));
  const __m512i low = _mm512_permutex2var_epi8(low0, line, low1);
  const __m512i magnitude = _mm512_permutex2var_epi8(high0, line, high1);
  const __m512i high = _mm512_ternarylogic_epi64(magnitude, line, _mm512_set1_epi8(static_cast<char>(0x80)), 0xF8);  // | sign
  _mm512_storeu_si512(pairs, _mm512_subs_epu16(_mm512_unpacklo_epi8(low, high), _mm512_load_si512(excess)));
  _mm512_storeu_si512(pairs + 16, _mm512_subs_epu16(_mm512_unpackhi_epi8(low, high), _mm512_load_si512(excess + 16)));
}

}  // namespace
}  // namespace tessera::cpu

// The vectors come first: attention_simd.h is written in them.
#include "cpu/kernels/attention_simd.h"

namespace tessera::cpu {

constinit const AttentionKernels kAttentionAvx512 = kAttentionTable;

}  // namespace tessera::cpu

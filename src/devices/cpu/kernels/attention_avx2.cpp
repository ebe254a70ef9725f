#include "cpu/kernels/simd_avx2.h"

namespace tessera::cpu {
namespace {

// The bfloat16, in the low halves, of 7-bit magnitudes under exponents that lack `excess` to 255. A magnitude's float32 has it as bits
// 16..31 with an exponent of up to 133; 0 stays 0.
inline __m256i magnitudes(__m256i m, __m256i excess) {
  const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(m)), 16);
  const __m256i scaled = _mm256_sub_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(122 << 7)), excess);
  return _mm256_andnot_si256(_mm256_cmpeq_epi32(m, _mm256_setzero_si256()), scaled);
}

// 64 codes to 32 pairs; excess is taken off their exponents.
inline void unpack_line(const uint8_t* codes, const uint32_t* excess, uint32_t* pairs) {
  const __m256i magnitude = _mm256_set1_epi32(0x7F), half = _mm256_set1_epi32(0xFFFF);
  for (int i = 0; i < 32; i += 8) {
    const __m256i both = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 2 * i)));
    const __m256i off = _mm256_load_si256(reinterpret_cast<const __m256i*>(excess + i));
    const __m256i low = magnitudes(_mm256_and_si256(both, magnitude), _mm256_and_si256(off, half));
    const __m256i high = magnitudes(_mm256_and_si256(_mm256_srli_epi32(both, 8), magnitude), _mm256_srli_epi32(off, 16));
    const __m256i low_sign = _mm256_slli_epi32(_mm256_and_si256(both, _mm256_set1_epi32(0x80)), 8);
    const __m256i high_sign = _mm256_slli_epi32(_mm256_and_si256(both, _mm256_set1_epi32(0x8000)), 16);
    const __m256i signs = _mm256_or_si256(low_sign, high_sign);
    const __m256i words = _mm256_or_si256(_mm256_or_si256(low, _mm256_slli_epi32(high, 16)), signs);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs + i), words);
  }
}

}  // namespace
}  // namespace tessera::cpu

// The vectors come first: attention_simd.h is written in them.
#include "cpu/kernels/attention_simd.h"

namespace tessera::cpu {

constinit const AttentionKernels kAttentionAvx2 = kAttentionTable;

}  // namespace tessera::cpu

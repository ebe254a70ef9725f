#include "cpu/kernels/simd_avx2.h"

namespace tessera::cpu {
namespace {

// 64 codes to 32 pairs; excess is taken off their exponents, 0 stays 0.
inline void unpack_line(const uint8_t* codes, const uint32_t* excess, uint32_t* pairs) {
  // A code goes to the highest byte of its word: as a whole number it is 2^24 times what it says, 24 + 127 + 6 above an exponent of 0.
  const __m256i evens = _mm256_setr_epi32(0x00808080, 0x02808080, 0x04808080, 0x06808080, 0x08808080, 0x0A808080, 0x0C808080, 0x0E808080);
  const __m256i odds = _mm256_add_epi32(evens, _mm256_set1_epi32(1 << 24));
  const __m256i up = _mm256_set1_epi16((255 - 24 - 127 - 6) << 7);
  for (int i = 0; i < 32; i += 8) {
    const __m256i line = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 2 * i)));
    const __m256i numbers = _mm256_sign_epi8(_mm256_and_si256(line, _mm256_set1_epi8(0x7F)), line);
    const __m256i low = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_shuffle_epi8(numbers, evens)));
    const __m256i high = _mm256_castps_si256(_mm256_cvtepi32_ps(_mm256_shuffle_epi8(numbers, odds)));
    const __m256i both = _mm256_blend_epi16(_mm256_srli_epi32(low, 16), high, 0xAA);
    const __m256i moved = _mm256_add_epi16(both, _mm256_sub_epi16(up, _mm256_load_si256(reinterpret_cast<const __m256i*>(excess + i))));
    const __m256i words = _mm256_andnot_si256(_mm256_cmpeq_epi16(both, _mm256_setzero_si256()), moved);
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

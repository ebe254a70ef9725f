#include "cpu/kernels/simd_avx512.h"
// The vectors come first: attention_simd.h is written in them.
#include "cpu/kernels/attention_simd.h"

namespace tessera::cpu {

constinit const AttentionKernels kAttentionAvx512 = kAttentionTable;

}  // namespace tessera::cpu

#include "cpu/kernels/simd_avx2.h"
// The vectors come first: attention_simd.h is written in them.
#include "cpu/kernels/attention_simd.h"

namespace tessera::cpu {

constinit const AttentionKernels kAttentionAvx2 = kAttentionTable;

}  // namespace tessera::cpu

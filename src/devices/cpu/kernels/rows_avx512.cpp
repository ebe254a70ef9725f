#include "cpu/kernels/simd_avx512.h"
// The vectors come first: rows_simd.h is written in them.
#include "cpu/kernels/rows_simd.h"

namespace tessera::cpu {

constinit const RowKernels kRowsAvx512 = kRowTable;

}  // namespace tessera::cpu

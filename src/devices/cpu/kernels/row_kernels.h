#pragma once
// The loops behind rows.h, one table an instruction set. Only tables leave a kernel file: all its code has internal linkage, and it uses
// no inline function of the standard library, so that none compiled for one instruction set is linked into another's path.
#include <cstdint>

#include "cpu/isa.h"

namespace tessera::cpu {

// T is float, or uint16_t for the bits of a bfloat16.
template <class T>
struct TypedRowKernels {
  void (*rms_norm)(const T* x, const float* weight, float epsilon, int64_t width, T* y);
  void (*rotary)(const T* x, const float* cos, const float* sin, int64_t half, T* y);
  void (*add)(const T* a, const T* b, int64_t n, T* y);
  void (*mul)(const T* x, float factor, int64_t n, T* y);
  void (*softcap)(const T* x, float cap, int64_t n, T* y);
  void (*gelu_mul)(const T* gate, const T* up, int64_t n, T* y);
  void (*silu_mul)(const T* gate, const T* up, int64_t n, T* y);
  void (*relu2)(const T* x, int64_t n, T* y);
};

struct RowKernels {
  TypedRowKernels<float> float32;
  TypedRowKernels<uint16_t> bfloat16;
  void (*to_bfloat16)(const float* x, int64_t n, uint16_t* y);
  void (*to_float32)(const uint16_t* x, int64_t n, float* y);
};

extern const RowKernels kRowsPlain;
extern const RowKernels kRowsCard;
#if defined(__x86_64__)
extern const RowKernels kRowsAvx2;
extern const RowKernels kRowsAvx512;
#endif

// Those of an instruction set that this machine has.
const RowKernels& row_kernels(Isa isa);

}  // namespace tessera::cpu

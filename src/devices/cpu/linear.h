#pragma once
// y = x W^T.
#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "cpu/kernels/linear_kernels.h"
#include "cpu/packed_weight.h"

namespace tessera::cpu {

// Rows in memory, `stride` numbers from one to the next; dtype is float32 or bfloat16.
struct InputRows {
  const void* data;
  DataType dtype;
  int64_t stride;
};
struct OutputRows {
  void* data;
  DataType dtype;
  int64_t stride;
};

// y[row][o] = sum of x[row][i] * weight[o][i], plus the weight's bias[o] if it has any, rounded once to y's type. x has weight.in() numbers
// a row, y weight.out(); they do not overlap.
//
// Every output has one order of summation for an instruction set, an input type and a weight; it does not depend on the number of rows, on
// the threads, or on what else is in the batch. With bfloat16 x and weights of bfloat16, bfloat8_b or bfloat4_b, avx512 multiplies with
// vdpbf16ps, input pairs in order, where numbers below 2^-126 count as zero. With bfloat16 x and weights of bfloat8_b or bfloat4_b, avx2
// sums whole numbers, which is exact in a block of 64 inputs, and rounds once a block and for each of the few products that don't fit. All
// other cases are float32 multiply-adds over blocks of 64 inputs, whose sums are added left to right. Throws std::invalid_argument for a
// row shorter than the weight, or a type that is neither float32 nor bfloat16.
void linear(ThreadPool& pool, Isa isa, const PackedWeight& weight, int64_t rows, const InputRows& x, const OutputRows& y);

const LinearKernels& linear_kernels(Isa isa);

}  // namespace tessera::cpu

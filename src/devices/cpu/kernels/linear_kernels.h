#pragma once
// The loops of a linear, one table for each instruction set. A weight [out, in] is stored as panels of 64 outputs, a panel as blocks of
// 64 inputs, zeros beyond its edges. A block is, by format (o output, k input, all in the block):
//
//   float32    [k 64][o 64] float
//   bfloat16   [k / 2: 32][o 64][k % 2] uint16: input pairs, as vdpbf16ps takes them
//   bfloat8_b  [o / 16: 4][k 64] shared exponents; then [k / 4: 16][o / 16: 4] lines of 64 bytes, in a line
//              [o % 16 / 4: 4][k % 4 / 2: 2][o % 4][k % 2] codes, which two look-ups and two unpacks turn into input pairs
//   bfloat4_b  [o / 16: 4][k 64] shared exponents; then [k / 2: 32] lines of 32 words [o % 16][k % 2], in a word the code of o / 16 = n
//              in bits 4n..4n+3
//
// Block exponents are 7..255, 127 where all codes are 0: no value of a block format is a denormal.
//
// These files are compiled with their set's flags, so nothing in them may be shared with other files (an inline function that the linker
// keeps once would run on the wrong machine): each has its code in an anonymous namespace and includes no header with code that it calls.
#include <cstddef>
#include <cstdint>

namespace tessera::cpu {

inline constexpr int64_t kPanel = 64;        // outputs
inline constexpr int64_t kBlock = 64;        // inputs
inline constexpr int64_t kDigitsPiece = 16;  // rows whose digits are made together

// y[row][o] = sum over the panel's inputs. Rows are padded to whole blocks. Every output has one order of summation, whatever the number
// of rows and the format:
//   bfloat16 rows: one sum over all input pairs in order, each pair by vdpbf16ps (denormals count as zero)
//   float32 rows: for each block one sum over its inputs in order, the blocks' sums added in order
//   float32 rows with `digits`, block formats: for each block an exact sum, then what it lacks, in an order that the block alone tells
struct PanelJob {
  const std::byte* panel;
  int64_t blocks;
  const void* x;  // bfloat16 bits or float32, as the kernel's table says
  int64_t x_stride;
  int64_t rows;
  const void* digits;  // what LinearKernels::make_digits made of digits_rows rows; the job's start at row digits_first; or null
  int64_t digits_rows, digits_first;
  uint8_t x_smallest, x_largest;  // of x's exponent fields other than 0, where the table wants to know
  float* y;
  int64_t y_stride;  // at least 64
  std::byte* scratch;
  int64_t ahead;  // the weights are fetched from memory so many bytes before they are read
};
using PanelKernel = void (*)(const PanelJob&);

inline constexpr size_t kScratchBytes = 128 * 1024;  // aligned to 64

struct PanelKernels {
  PanelKernel float32, bfloat16, bfloat8_b, bfloat4_b;
};

// One row of a weight that is being packed.
struct PackRow {
  const std::byte* data;  // any alignment; null: a row of zeros
  enum { float32, float16, bfloat16 } type;
};
// Packs 64 rows of `in` inputs: all blocks of one panel.
using PackKernel = void (*)(const PackRow* rows, int64_t in, std::byte* panel);

struct LinearKernels {
  PanelKernels bfloat16_rows;  // null entries: widen the rows and take float32_rows
  PanelKernels float32_rows;
  // Up to so many bfloat16 rows PanelJob needs x_smallest and x_largest; exponent_range narrows them, which start as 255 and 0.
  int64_t exponent_range_rows;
  void (*exponent_range)(const uint16_t* x, int64_t count, uint8_t& smallest, uint8_t& largest);
  // Not null: float32_rows' kernels of block formats want rows that were bfloat16 as whole numbers too (PanelJob::digits). make_digits
  // writes those of the piece's rows, from kDigitsPiece * piece on, whose first is x, into the memory for all `rows`: digits_bytes, aligned
  // to 64.
  int64_t (*digits_bytes)(int64_t rows, int64_t blocks);
  void (*make_digits)(const float* x, int64_t x_stride, int64_t rows, int64_t blocks, int64_t piece, std::byte* to);
  PackKernel pack_float32, pack_bfloat16, pack_bfloat8_b, pack_bfloat4_b;
  // Number conversions, rounding to nearest even; a NaN stays one.
  void (*widen)(const uint16_t* from, float* to, int64_t count);
  void (*narrow)(const float* from, uint16_t* to, int64_t count);
};

extern const LinearKernels kLinearPlain;
#if defined(__x86_64__)
extern const LinearKernels kLinearAvx2;
extern const LinearKernels kLinearAvx512;
#endif

}  // namespace tessera::cpu

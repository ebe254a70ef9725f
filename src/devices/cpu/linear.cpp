#include "cpu/linear.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "core/error.h"

namespace tessera::cpu {
namespace {

// What a thread takes at once: enough for one long stream of weights when the rows are few, few enough rows that the other threads have
// work too when they are many.
constexpr int64_t kFewRows = 16;
constexpr size_t kPieceBytes = 64 * 1024;
constexpr int64_t kPieceRows = 256;
static_assert(kPieceRows % kDigitsPiece == 0);

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Memory of a thread that is kept from call to call.
class Buffer {
 public:
  std::byte* reserve(size_t bytes) {
    if (bytes > size_) {
      size_ = 0;
      data_.reset();
      data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
      check<ResourceError>(data_ != nullptr, "linear: no memory for ", bytes, " bytes of working space");
      size_ = bytes;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

PanelKernel choose(const PanelKernels& kernels, DataType format) {
  switch (format) {
    case DataType::float32:
      return kernels.float32;
    case DataType::bfloat16:
      return kernels.bfloat16;
    case DataType::bfloat8_b:
      return kernels.bfloat8_b;
    default:
      return kernels.bfloat4_b;
  }
}

// How far ahead of a stream to fetch. Measured with 0 to 16 KB: Zen 5 reads 41 GB/s instead of 33 with 8 KB, Zen 4 with its AVX-512 is best
// left alone (27 instead of 25), and AVX2's kernels on Zen 3 read 17 GB/s instead of 12 with 2 KB, and less of bfloat16 with more.
int64_t fetch_distance(Isa isa) {
  if (isa == Isa::avx2) return 2048;
#if defined(__x86_64__)
  static const bool zen4 = (__builtin_cpu_init(), __builtin_cpu_is("amdfam19h"));
  if (zen4) return 0;
#endif
  return 8192;
}

// x as a kernel reads it: rows of whole blocks, in the kernel's type.
struct Prepared {
  const std::byte* data;
  int64_t stride;  // numbers
  int64_t number_bytes;
  const std::byte* digits;  // of all `rows`, if the kernels want them
  int64_t rows;
  uint8_t smallest = 255, largest = 0;  // exponent fields, where the kernels want to know
};

Prepared prepare(ThreadPool& pool, const LinearKernels& kernels, const InputRows& x, int64_t rows, int64_t in, DataType wanted,
                 bool digits) {
  const int64_t padded = (in + kBlock - 1) / kBlock * kBlock, from_bytes = x.dtype == DataType::float32 ? 4 : 2;
  const int64_t to_bytes = wanted == DataType::float32 ? 4 : 2;
  const auto* from = static_cast<const std::byte*>(x.data);
  if (x.dtype == wanted && in == padded) return {from, x.stride, to_bytes, nullptr, rows};
  // A line apart from a power of two, at which the first lines of all rows would fall into one place of the first-level cache.
  const int64_t stride = padded + 64 / to_bytes;
  static thread_local Buffer buffer, digits_buffer;
  std::byte* to = buffer.reserve(static_cast<size_t>(rows * stride * to_bytes));
  const int64_t blocks = padded / kBlock;
  std::byte* const all_digits = digits ? digits_buffer.reserve(static_cast<size_t>(kernels.digits_bytes(rows, blocks))) : nullptr;
  constexpr int64_t step = kDigitsPiece;
  pool.parallel_for((rows + step - 1) / step, [&](int64_t piece, int) {
    for (int64_t row = piece * step; row < std::min(rows, piece * step + step); ++row) {
      const std::byte* source = from + row * x.stride * from_bytes;
      std::byte* target = to + row * stride * to_bytes;
      if (x.dtype == wanted)
        std::memcpy(target, source, static_cast<size_t>(in * to_bytes));
      else
        kernels.widen(reinterpret_cast<const uint16_t*>(source), reinterpret_cast<float*>(target), in);
      std::memset(target + in * to_bytes, 0, static_cast<size_t>((padded - in) * to_bytes));
    }
    if (digits) kernels.make_digits(reinterpret_cast<const float*>(to) + piece * step * stride, stride, rows, blocks, piece, all_digits);
  });
  return {to, stride, to_bytes, all_digits, rows};
}

// One panel by rows [first, last).
void multiply_panel(const LinearKernels& kernels, PanelKernel kernel, int64_t ahead, const PackedWeight& weight, int64_t panel,
                    const Prepared& x, int64_t first, int64_t last, const OutputRows& y) {
  static thread_local Buffer buffer;
  const int64_t rows = last - first, outputs = std::min(kPanel, weight.out() - panel * kPanel);
  std::byte* scratch = buffer.reserve(kScratchBytes + static_cast<size_t>(kPieceRows * kPanel) * 4);
  float* sums = reinterpret_cast<float*>(scratch + kScratchBytes);
  int64_t sums_stride = kPanel;
  const bool direct = y.dtype == DataType::float32 && outputs == kPanel;
  if (direct) {
    sums = static_cast<float*>(y.data) + first * y.stride + panel * kPanel;
    sums_stride = y.stride;
  }
  kernel({.panel = weight.panel(panel),
          .blocks = weight.blocks(),
          .x = x.data + first * x.stride * x.number_bytes,
          .x_stride = x.stride,
          .rows = rows,
          .digits = x.digits,
          .digits_rows = x.rows,
          .digits_first = first,
          .x_smallest = x.smallest,
          .x_largest = x.largest,
          .y = sums,
          .y_stride = sums_stride,
          .scratch = scratch,
          .ahead = ahead});
  if (const std::span<const float> bias = weight.bias(); !bias.empty())
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t o = 0; o < outputs; ++o) sums[row * sums_stride + o] += bias[static_cast<size_t>(panel * kPanel + o)];
  if (direct) return;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = (first + row) * y.stride + panel * kPanel;
    if (y.dtype == DataType::float32)
      std::memcpy(static_cast<float*>(y.data) + at, sums + row * kPanel, static_cast<size_t>(outputs) * 4);
    else
      kernels.narrow(sums + row * kPanel, static_cast<uint16_t*>(y.data) + at, outputs);
  }
}

}  // namespace

const LinearKernels& linear_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return kLinearAvx512;
  if (isa == Isa::avx2) return kLinearAvx2;
#endif
  check(isa == Isa::plain, "linear: no kernels for ", name(isa), " on this machine");
  return kLinearPlain;
}

void linear(ThreadPool& pool, Isa isa, const PackedWeight& weight, int64_t rows, const InputRows& x, const OutputRows& y) {
  if (rows == 0) return;
  check(rows > 0 && x.stride >= weight.in() && y.stride >= weight.out(), "linear: ", rows, " rows of ", x.stride, " and ", y.stride,
        " numbers do not fit a weight [", weight.out(), ", ", weight.in(), "]");
  for (DataType dtype : {x.dtype, y.dtype})
    check(dtype == DataType::float32 || dtype == DataType::bfloat16, "linear: rows of ", dtype, "; it takes float32 and bfloat16");
  const LinearKernels& kernels = linear_kernels(isa);
  PanelKernel kernel = x.dtype == DataType::bfloat16 ? choose(kernels.bfloat16_rows, weight.dtype()) : nullptr;
  const DataType wanted = kernel ? DataType::bfloat16 : DataType::float32;
  if (!kernel) kernel = choose(kernels.float32_rows, weight.dtype());
  const bool digits = x.dtype == DataType::bfloat16 && (weight.dtype() == DataType::bfloat8_b || weight.dtype() == DataType::bfloat4_b) &&
                      kernels.make_digits;
  Prepared prepared = prepare(pool, kernels, x, rows, weight.in(), wanted, digits);
  if (wanted == DataType::bfloat16 && rows <= kernels.exponent_range_rows)
    for (int64_t row = 0; row < rows; ++row)
      kernels.exponent_range(reinterpret_cast<const uint16_t*>(prepared.data) + row * prepared.stride, weight.in(), prepared.smallest,
                             prepared.largest);

  const int64_t panels = weight.panels(), ahead = fetch_distance(isa);
  const int64_t panels_a_piece = rows > kFewRows ? 1 : std::max<int64_t>(1, static_cast<int64_t>(kPieceBytes / weight.panel_bytes()));
  const int64_t row_pieces = (rows + kPieceRows - 1) / kPieceRows;
  const int64_t panel_pieces = (panels + panels_a_piece - 1) / panels_a_piece;
  pool.parallel_for(panel_pieces * row_pieces, [&](int64_t piece, int) {
    const int64_t first = piece / panel_pieces * kPieceRows, panel = piece % panel_pieces * panels_a_piece;
    for (int64_t p = panel; p < std::min(panels, panel + panels_a_piece); ++p)
      multiply_panel(kernels, kernel, ahead, weight, p, prepared, first, std::min(rows, first + kPieceRows), y);
  });
}

}  // namespace tessera::cpu

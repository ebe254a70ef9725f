#include "cpu/packed_weight.h"

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "core/block_float.h"
#include "core/error.h"
#include "cpu/linear.h"

namespace tessera::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kLargestSize = int64_t{1} << 32;  // of out and in: keeps every product below in 64 bits

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

size_t block_bytes(DataType dtype) {
  switch (dtype) {
    case DataType::float32:
      return kBlock * kPanel * 4;
    case DataType::bfloat16:
      return kBlock * kPanel * 2;
    case DataType::bfloat8_b:
      return kBlock * (kPanel + kPanel / kSharedExponent);
    case DataType::bfloat4_b:
      return kBlock * (kPanel / 2 + kPanel / kSharedExponent);
    default:
      fail("packed weight: ", dtype, " is no weight type; choose float32, bfloat16, bfloat8_b or bfloat4_b");
  }
}

// Memory that starts at a huge page if it fills one; zeros.
std::byte* map_memory(size_t bytes) {
  const size_t slack = bytes >= kHugePage ? kHugePage : 0;
  void* mapped = ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check<ResourceError>(mapped != MAP_FAILED, "packed weight: no memory for ", bytes, " bytes; free some, or choose a smaller weight type");
  auto* data = static_cast<std::byte*>(mapped);
  if (slack) {
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(data) % kHugePage) % kHugePage;
    if (before) ::munmap(data, before);
    data += before;
    const size_t end = static_cast<size_t>(round_up(static_cast<int64_t>(bytes), 4096)), mapped_end = bytes + slack - before;
    if (mapped_end > end) ::munmap(data + end, mapped_end - end);
    ::madvise(data, bytes, MADV_HUGEPAGE);
  }
  return data;
}

constexpr int64_t kSlabValues = int64_t{1} << 23;  // packed before their source is told that it may go

// Tells the sources that rows [first, last) of all of them together are read.
void report_done(std::span<const WeightPart> sources, int64_t first, int64_t last) {
  int64_t start = 0;
  for (const WeightPart& source : sources) {
    const int64_t begin = std::max(first, start), end = std::min(last, start + source.rows);
    if (source.done && begin < end) source.done(begin - start, end - begin);
    start += source.rows;
  }
}

// Whether every value is exact in bfloat16.
bool exact_in_bfloat16(ThreadPool& pool, std::span<const WeightPart> sources, int64_t in) {
  std::atomic<bool> exact = true;
  for (const WeightPart& source : sources) {
    if (source.type == StoredType::bfloat16) continue;
    pool.parallel_for((source.rows + kPanel - 1) / kPanel, [&](int64_t piece, int) {
      const int64_t last = std::min(source.rows, (piece + 1) * kPanel);
      for (int64_t row = piece * kPanel; row < last && exact.load(std::memory_order_relaxed); ++row) {
        const std::byte* data = source.data + row * in * bytes_of(source.type);
        uint32_t lost = 0;
        for (int64_t i = 0; i < in; ++i) lost |= std::bit_cast<uint32_t>(load_stored(source.type, data, i));
        if (lost & 0xFFFFu) exact.store(false, std::memory_order_relaxed);
      }
    });
  }
  return exact;
}

PackKernel pack_kernel(const LinearKernels& kernels, DataType dtype) {
  switch (dtype) {
    case DataType::float32:
      return kernels.pack_float32;
    case DataType::bfloat16:
      return kernels.pack_bfloat16;
    case DataType::bfloat8_b:
      return kernels.pack_bfloat8_b;
    default:
      return kernels.pack_bfloat4_b;
  }
}

// The 64 rows of panel `panel`; rows past the end are null.
void panel_rows(std::span<const WeightPart> sources, int64_t in, int64_t panel, PackRow (&rows)[kPanel]) {
  int64_t start = 0, wanted = panel * kPanel, filled = 0;
  for (const WeightPart& source : sources) {
    for (; filled < kPanel && wanted < start + source.rows; ++filled, ++wanted)
      rows[filled] = {source.data + (wanted - start) * in * bytes_of(source.type), static_cast<decltype(PackRow::type)>(source.type)};
    start += source.rows;
  }
  for (; filled < kPanel; ++filled) rows[filled] = {nullptr, PackRow::float32};
}
static_assert(static_cast<int>(StoredType::float32) == PackRow::float32 && static_cast<int>(StoredType::float16) == PackRow::float16 &&
              static_cast<int>(StoredType::bfloat16) == PackRow::bfloat16);

}  // namespace

int64_t PackedWeight::panels() const { return (out_ + kPanel - 1) / kPanel; }
int64_t PackedWeight::blocks() const { return (in_ + kBlock - 1) / kBlock; }
size_t PackedWeight::panel_bytes() const { return static_cast<size_t>(blocks()) * block_bytes(dtype_); }

PackedWeight PackedWeight::part(int64_t first, int64_t rows) const {
  check(first >= 0 && first % kPanel == 0 && rows >= 1 && rows <= out_ - first, "packed weight: outputs [", first, ", ", first + rows,
        ") of ", out_, "; a part begins at a multiple of ", kPanel);
  PackedWeight part;
  part.dtype_ = dtype_;
  part.out_ = rows;
  part.in_ = in_;
  part.bytes_ = static_cast<size_t>(part.panels()) * panel_bytes();
  part.data_ = {data_, panel(first / kPanel)};
  if (!bias_.empty()) part.bias_.assign(bias_.begin() + first, bias_.begin() + first + rows);
  return part;
}

size_t PackedWeight::bytes_of(DataType dtype, int64_t out, int64_t in) {
  check(out >= 1 && out <= kLargestSize && in >= 1 && in <= kLargestSize, "packed weight: [", out, ", ", in, "]; each must be 1 to ",
        kLargestSize);
  const auto panels = static_cast<size_t>((out + kPanel - 1) / kPanel), blocks = static_cast<size_t>((in + kBlock - 1) / kBlock);
  size_t bytes = 0;
  check<ResourceError>(!__builtin_mul_overflow(panels, blocks * block_bytes(dtype), &bytes), "packed weight: [", out, ", ", in,
                       "] does not fit any memory");
  return bytes;
}

PackedWeight PackedWeight::pack(ThreadPool& pool, Isa isa, DataType target, std::span<const WeightPart> sources, int64_t in) {
  check(in >= 1 && in <= kLargestSize, "packed weight: ", in, " inputs; it takes 1 to ", kLargestSize);
  PackedWeight weight;
  for (const WeightPart& source : sources) {
    check(source.data && source.rows >= 1 && source.rows <= kLargestSize - weight.out_, "packed weight: a block of ", source.rows,
          " rows after ", weight.out_, "; it takes 1 to ", kLargestSize, " rows in all");
    weight.out_ += source.rows;
    for (int64_t row = 0; source.bias.data != nullptr && row < source.rows; ++row)
      weight.bias_.push_back(load_stored(source.bias.type, source.bias.data, row));
  }
  check(weight.bias_.empty() || static_cast<int64_t>(weight.bias_.size()) == weight.out_, "packed weight: ", weight.bias_.size(),
        " biases for ", weight.out_, " outputs");
  check(weight.out_ >= 1, "packed weight: no rows");
  weight.in_ = in;
  weight.dtype_ = target;
  block_bytes(target);  // refuses other types
  if (target == DataType::float32 && exact_in_bfloat16(pool, sources, in)) weight.dtype_ = DataType::bfloat16;
  weight.bytes_ = bytes_of(weight.dtype_, weight.out_, in);
  std::byte* const data = map_memory(weight.bytes_);
  weight.data_ = {data, [bytes = weight.bytes_](std::byte* mapped) { ::munmap(mapped, bytes); }};
  const PackKernel kernel = pack_kernel(linear_kernels(isa), weight.dtype_);
  const int64_t step = std::max<int64_t>(kSlabValues / (kPanel * in), 1);
  for (int64_t first = 0; first < weight.panels(); first += step) {
    const int64_t last = std::min(weight.panels(), first + step);
    pool.parallel_for(last - first, [&](int64_t i, int) {
      PackRow rows[kPanel];
      panel_rows(sources, in, first + i, rows);
      kernel(rows, in, data + static_cast<size_t>(first + i) * weight.panel_bytes());
    });
    report_done(sources, first * kPanel, last * kPanel);
  }
  return weight;
}

std::optional<PackedWeight> PackedWeight::restore(DataType target, int64_t out, int64_t in, std::shared_ptr<const std::byte> data,
                                                  size_t bytes, std::span<const float> bias) {
  PackedWeight weight;
  weight.dtype_ = target;
  if (target == DataType::float32 && bytes == bytes_of(DataType::bfloat16, out, in)) weight.dtype_ = DataType::bfloat16;
  if (bytes != bytes_of(weight.dtype_, out, in)) return std::nullopt;
  weight.out_ = out;
  weight.in_ = in;
  weight.bytes_ = bytes;
  weight.data_ = std::move(data);
  weight.bias_.assign(bias.begin(), bias.end());
  return weight;
}

namespace {

template <class Value>
void lookup_row(const PackedWeight& weight, int64_t row, Value* values, Value (*convert)(float)) {
  check(row >= 0 && row < weight.out(), "packed weight: row ", row, " is outside 0..", weight.out() - 1);
  const DataType dtype = weight.dtype();
  const std::byte* panel = weight.panel(row / kPanel);
  const int64_t o = row % kPanel, n = o / 16, place = o % 16;
  for (int64_t i = 0; i < weight.in(); ++i) {
    const int64_t k = i % kBlock;
    const std::byte* block = panel + static_cast<size_t>(i / kBlock) * block_bytes(dtype);
    const auto* exponents = reinterpret_cast<const uint8_t*>(block);
    if (dtype == DataType::float32) {
      values[i] = convert(reinterpret_cast<const float*>(block)[k * kPanel + o]);
    } else if (dtype == DataType::bfloat16) {
      values[i] = convert(to_float(bfloat16{reinterpret_cast<const uint16_t*>(block)[(k / 2 * kPanel + o) * 2 + k % 2]}));
    } else if (dtype == DataType::bfloat8_b) {
      const uint8_t code = exponents[4 * kBlock + (k / 4 * 4 + n) * 64 + place / 4 * 16 + k % 4 / 2 * 8 + place % 4 * 2 + k % 2];
      values[i] = convert(decode_block(dtype, exponents[n * kBlock + k], code));
    } else {
      const uint16_t word = reinterpret_cast<const uint16_t*>(exponents + 4 * kBlock)[k / 2 * 32 + place * 2 + k % 2];
      values[i] = convert(decode_block(dtype, exponents[n * kBlock + k], static_cast<uint8_t>(word >> (4 * n) & 15)));
    }
  }
}

}  // namespace

void PackedWeight::lookup(int64_t row, float* values) const {
  lookup_row<float>(*this, row, values, [](float value) { return value; });
}

void PackedWeight::lookup(int64_t row, bfloat16* values) const { lookup_row<bfloat16>(*this, row, values, to_bfloat16); }

}  // namespace tessera::cpu

#pragma once
// A linear's weight [out, in] as the CPU multiplies it: panels of 64 outputs, read strictly in sequence (kernels/linear_kernels.h).
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/data_type.h"
#include "core/stored_type.h"
#include "core/thread_pool.h"
#include "cpu/isa.h"

namespace tessera::cpu {

class PackedWeight {
 public:
  PackedWeight() = default;

  // Packs the sources, laid end to end as outputs (q|k|v, gate|up), in parallel; they are not needed afterwards. The bytes do not depend on
  // the instruction set or the threads. `target` is float32, bfloat16, bfloat8_b or bfloat4_b:
  //   - float32 whose values are all exact in bfloat16 is stored as bfloat16: same values, half the memory;
  //   - bfloat8_b, bfloat4_b: the 16 outputs 16i..16i+15 of one input share an exponent, rounded as core/block_float.h tells; 16 values
  //     all below 2^-120 become zeros.
  // Biases, which all sources have or none, are kept as float32 beside it.
  // Throws std::invalid_argument for an empty or impossible size, ResourceError if there is no memory for it.
  static PackedWeight pack(ThreadPool& pool, Isa isa, DataType target, std::span<const WeightPart> sources, int64_t in);

  // What pack() made, from its bytes, which are used in place, and its biases, which are copied; nothing if they cannot be those of such a
  // weight.
  static std::optional<PackedWeight> restore(DataType target, int64_t out, int64_t in, std::shared_ptr<const std::byte> data, size_t bytes,
                                             std::span<const float> bias);
  static constexpr std::string_view kLayout = "panels of 64 by 64, 1";  // changes with the bytes that pack() makes

  // All the memory that a weight stored as `dtype` takes. Throws as pack does for an impossible type or size.
  static size_t bytes_of(DataType dtype, int64_t out, int64_t in);

  DataType dtype() const { return dtype_; }  // as stored
  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  size_t bytes() const { return bytes_; }                // all the memory that it takes, less its biases
  std::span<const float> bias() const { return bias_; }  // of each output; or empty

  // The values of one output's weights, `in` of them: a tied embedding's row. bfloat16 is rounded if the weight is stored as float32.
  void lookup(int64_t row, float* values) const;
  void lookup(int64_t row, bfloat16* values) const;

  // The outputs [first, first + rows), in the same memory; first is a multiple of 64.
  PackedWeight part(int64_t first, int64_t rows) const;

  int64_t panels() const;
  int64_t blocks() const;  // of 64 inputs in a panel
  size_t panel_bytes() const;
  std::span<const std::byte> data() const { return {data_.get(), bytes_}; }
  const std::byte* panel(int64_t index) const { return data_.get() + static_cast<size_t>(index) * panel_bytes(); }

 private:
  DataType dtype_ = DataType::float32;
  int64_t out_ = 0, in_ = 0;
  size_t bytes_ = 0;
  std::shared_ptr<const std::byte> data_;  // its own memory, or a piece of a file
  std::vector<float> bias_;
};

}  // namespace tessera::cpu

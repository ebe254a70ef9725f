// The linear in plain C++: what the other instruction sets are compared with.
#include "core/block_float.h"
#include "cpu/kernels/linear_kernels.h"
#include "cpu/kernels/linear_pack.h"

namespace tessera::cpu {
namespace {

using Values = float[kBlock][kPanel];  // a block's weights, [k][o]

void read_float32(const std::byte* block, Values& w) { std::memcpy(w, block, sizeof w); }

void read_bfloat16(const std::byte* block, Values& w) {
  const uint16_t* bits = reinterpret_cast<const uint16_t*>(block);
  for (int64_t k = 0; k < kBlock; ++k)
    for (int64_t o = 0; o < kPanel; ++o) w[k][o] = to_float(tessera::bfloat16{bits[(k / 2 * kPanel + o) * 2 + k % 2]});
}

void read_bfloat8_b(const std::byte* block, Values& w) {
  const uint8_t* exponents = reinterpret_cast<const uint8_t*>(block);
  const uint8_t* codes = exponents + 4 * kBlock;
  for (int64_t k = 0; k < kBlock; ++k)
    for (int64_t o = 0; o < kPanel; ++o) {
      const int64_t line = k / 4 * 4 + o / 16, place = o % 16 / 4 * 16 + k % 4 / 2 * 8 + o % 4 * 2 + k % 2;
      w[k][o] = decode_block(DataType::bfloat8_b, exponents[o / 16 * kBlock + k], codes[line * 64 + place]);
    }
}

void read_bfloat4_b(const std::byte* block, Values& w) {
  const uint8_t* exponents = reinterpret_cast<const uint8_t*>(block);
  const uint16_t* words = reinterpret_cast<const uint16_t*>(exponents + 4 * kBlock);
  for (int64_t k = 0; k < kBlock; ++k)
    for (int64_t o = 0; o < kPanel; ++o) {
      const int code = words[k / 2 * 32 + o % 16 * 2 + k % 2] >> (o / 16 * 4) & 15;
      w[k][o] = decode_block(DataType::bfloat4_b, exponents[o / 16 * kBlock + k], static_cast<uint8_t>(code));
    }
}

template <void (*read)(const std::byte*, Values&), int64_t block_bytes>
void multiply(const PanelJob& job) {
  alignas(64) Values w;
  for (int64_t block = 0; block < job.blocks; ++block) {
    read(job.panel + block * block_bytes, w);
    for (int64_t row = 0; row < job.rows; ++row) {
      const float* x = static_cast<const float*>(job.x) + row * job.x_stride + block * kBlock;
      float* y = job.y + row * job.y_stride;
      alignas(64) float sum[kPanel] = {};
      for (int64_t k = 0; k < kBlock; ++k)
        for (int64_t o = 0; o < kPanel; ++o) sum[o] += w[k][o] * x[k];
      for (int64_t o = 0; o < kPanel; ++o) y[o] = block == 0 ? sum[o] : y[o] + sum[o];
    }
  }
}

}  // namespace

const LinearKernels kLinearPlain{
    .bfloat16_rows = {},
    .float32_rows = {.float32 = multiply<read_float32, 16384>,
                     .bfloat16 = multiply<read_bfloat16, 8192>,
                     .bfloat8_b = multiply<read_bfloat8_b, 4352>,
                     .bfloat4_b = multiply<read_bfloat4_b, 2304>},
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

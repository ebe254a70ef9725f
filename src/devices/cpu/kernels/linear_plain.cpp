// The linear in plain C++: what the other instruction sets are compared with.
#include "core/data_type.h"
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

// The whole numbers that the codes of a format with `bits` magnitude bits stand for.
template <int bits>
struct Codes {
  float value[2 << bits];
  constexpr Codes() : value{} {
    for (int code = 0; code < 2 << bits; ++code) {
      const int magnitude = code & ((1 << bits) - 1);
      value[code] = static_cast<float>(code >> bits ? -magnitude : magnitude);
    }
  }
};
constexpr Codes<7> kCodes8;
constexpr Codes<3> kCodes4;

// 2^(exponent - 127 - (bits - 1)), exact from exponent 7 on. (It makes an infinity of a NaN.)
float scale(uint8_t exponent, int bits) { return __builtin_bit_cast(float, static_cast<uint32_t>(exponent - (bits - 1)) << 23); }

void read_bfloat8_b(const std::byte* block, Values& w) {
  const uint8_t* exponents = reinterpret_cast<const uint8_t*>(block);
  const uint8_t* line = exponents + 4 * kBlock;
  for (int64_t quad = 0; quad < kBlock; quad += 4)
    for (int64_t n = 0; n < 4; ++n, line += 64)
      for (int64_t k = 0; k < 4; ++k) {
        const float factor = scale(exponents[n * kBlock + quad + k], 7);
        const uint8_t* codes = line + k / 2 * 8 + k % 2;
        for (int64_t o = 0; o < 16; ++o) w[quad + k][n * 16 + o] = kCodes8.value[codes[o / 4 * 16 + o % 4 * 2]] * factor;
      }
}

void read_bfloat4_b(const std::byte* block, Values& w) {
  const uint8_t* exponents = reinterpret_cast<const uint8_t*>(block);
  const uint16_t* words = reinterpret_cast<const uint16_t*>(exponents + 4 * kBlock);
  for (int64_t k = 0; k < kBlock; ++k)
    for (int64_t n = 0; n < 4; ++n) {
      const float factor = scale(exponents[n * kBlock + k], 3);
      for (int64_t o = 0; o < 16; ++o) w[k][n * 16 + o] = kCodes4.value[words[k / 2 * 32 + o * 2 + k % 2] >> (4 * n) & 15] * factor;
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
    .exponent_range_rows = 0,
    .exponent_range = nullptr,
    .digits_bytes = nullptr,
    .make_digits = nullptr,
    .pack_float32 = pack_float32,
    .pack_bfloat16 = pack_bfloat16,
    .pack_bfloat8_b = pack_bfloat8_b,
    .pack_bfloat4_b = pack_bfloat4_b,
    .widen = widen,
    .narrow = narrow,
};

}  // namespace tessera::cpu

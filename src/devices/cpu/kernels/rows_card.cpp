// What TTNN 0.81's kernels do on an n150 with bfloat16, step by step: which digits are dropped and how the others are rounded. The orders
// of sums and the digits that the matrix unit loses inside them (3e-4 of a result) are not the card's.
#include <cmath>

#include "cpu/card_rounding.h"
#include "cpu/kernels/row_kernels.h"

namespace tessera::cpu {
namespace {

float get(uint16_t x) { return to_float(bfloat16{x}); }

// Both are rounded to the larger's eleventh digit, then their sum to its eighth.
uint16_t sum(float a, float b) {
  int exponent = 0;
  std::frexp(std::fmax(std::fabs(a), std::fabs(b)), &exponent);
  const auto digits = [&](float x) { return std::ldexp(std::round(std::ldexp(x, 11 - exponent)), exponent - 11); };
  return packed_bits(digits(a) + digits(b));
}

void rms_norm(const uint16_t* x, const float* weight, float epsilon, int64_t width, uint16_t* y) {
  float sums[16] = {}, sum = 0;
  for (int64_t i = 0; i < width; ++i) sums[i % 16] += truncated(get(x[i]) * get(x[i]), kTf32);
  for (const float s : sums) sum += s;
  const float mean = truncated(sum / static_cast<float>(width), kTf32);
  const float factor = truncated(1.0f / std::sqrt(truncated(mean + epsilon, kTf32)), kTf32);
  for (int64_t i = 0; i < width; ++i) y[i] = packed_bits(truncated(get(x[i]) * factor, kTf32 + 1) * truncated(weight[i], kTf32));
}

// cos and sin are bfloat16 on the card, whatever the model's are.
void rotary(const uint16_t* x, const float* cos, const float* sin, int64_t half, uint16_t* y) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = get(x[i]), b = get(x[half + i]), c = round_to_bfloat16(cos[i]), s = round_to_bfloat16(sin[i]);
    y[i] = sum(packed(a * c), packed(-b * s));
    y[half + i] = sum(packed(b * c), packed(a * s));
  }
}

void add(const uint16_t* a, const uint16_t* b, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = sum(get(a[i]), get(b[i]));
}

template <void (*activate)(const uint16_t*, const uint16_t*, int64_t, uint16_t*)>
void gated(const uint16_t* gate, const uint16_t* up, int64_t n, uint16_t* y) {
  constexpr uint16_t kOne = 0x3F80;
  for (int64_t i = 0; i < n; ++i) {
    uint16_t activated;
    activate(gate + i, &kOne, 1, &activated);
    y[i] = to_bfloat16(get(activated) * get(up[i])).bits;
  }
}

void gelu(const uint16_t* x, const uint16_t* one, int64_t n, uint16_t* y) { kRowsPlain.bfloat16.gelu_mul(x, one, n, y); }
void silu(const uint16_t* x, const uint16_t* one, int64_t n, uint16_t* y) { kRowsPlain.bfloat16.silu_mul(x, one, n, y); }

RowKernels rows() {
  RowKernels kernels = kRowsPlain;
  kernels.bfloat16 = {
      rms_norm, rotary, add, kRowsPlain.bfloat16.mul, kRowsPlain.bfloat16.softcap, gated<gelu>, gated<silu>, kRowsPlain.bfloat16.relu2};
  return kernels;
}

}  // namespace

const RowKernels kRowsCard = rows();

}  // namespace tessera::cpu

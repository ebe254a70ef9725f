// The oracle: each op as it is written on paper.
#include <cmath>

#include "core/data_type.h"
#include "cpu/kernels/row_kernels.h"

namespace tessera::cpu {
namespace {

float get(float x) { return x; }
float get(uint16_t x) { return to_float(bfloat16{x}); }
void put(float x, float& y) { y = x; }
void put(float x, uint16_t& y) { y = to_bfloat16(x).bits; }

template <class T>
void rms_norm(const T* x, const float* weight, float epsilon, int64_t width, T* y) {
  float sums[16] = {};  // sixteen sums lose less than one
  for (int64_t i = 0; i < width; ++i) sums[i % 16] += get(x[i]) * get(x[i]);
  float sum = 0;
  for (float s : sums) sum += s;
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
  for (int64_t i = 0; i < width; ++i) put(get(x[i]) * factor * weight[i], y[i]);
}

template <class T>
void rotary(const T* x, const float* cos, const float* sin, int64_t half, T* y) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = get(x[i]), b = get(x[half + i]);
    put(a * cos[i] - b * sin[i], y[i]);
    put(b * cos[i] + a * sin[i], y[half + i]);
  }
}

template <class T>
void add(const T* a, const T* b, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) put(get(a[i]) + get(b[i]), y[i]);
}

template <class T>
void mul(const T* x, float factor, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) put(get(x[i]) * factor, y[i]);
}

template <class T>
void softcap(const T* x, float cap, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) put(cap * std::tanh(get(x[i]) / cap), y[i]);
}

template <class T>
void gelu_mul(const T* gate, const T* up, int64_t n, T* y) {
  constexpr float kSqrt2OverPi = 0.7978845608f;
  for (int64_t i = 0; i < n; ++i) {
    const float x = get(gate[i]);
    put(0.5f * x * (1.0f + std::tanh(kSqrt2OverPi * (x + 0.044715f * x * x * x))) * get(up[i]), y[i]);
  }
}

template <class T>
void silu_mul(const T* gate, const T* up, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) put(get(gate[i]) / (1.0f + std::exp(-get(gate[i]))) * get(up[i]), y[i]);
}

template <class T>
void relu2(const T* x, int64_t n, T* y) {
  for (int64_t i = 0; i < n; ++i) {
    const float positive = get(x[i]) < 0 ? 0 : get(x[i]);
    put(positive * positive, y[i]);
  }
}

void narrow(const float* x, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; ++i) put(x[i], y[i]);
}

void widen(const uint16_t* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = get(x[i]);
}

template <class T>
constexpr TypedRowKernels<T> kTyped{rms_norm<T>, rotary<T>, add<T>, mul<T>, softcap<T>, gelu_mul<T>, silu_mul<T>, relu2<T>};

}  // namespace

constinit const RowKernels kRowsPlain{kTyped<float>, kTyped<uint16_t>, narrow, widen};

}  // namespace tessera::cpu

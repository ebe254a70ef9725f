#pragma once
// The row kernels in terms of simd_avx2.h or simd_avx512.h, which the including file names first.
#include "cpu/kernels/row_kernels.h"
#include "cpu/kernels/simd_math.h"

namespace tessera::cpu {
namespace {

template <class T>
void rms_norm_row(const T* x, const float* weight, float epsilon, int64_t width, T* y) {
  Vec squares = set(0);
  for_lanes(width, [&](int64_t i, auto lanes) {
    const Vec v = load(x + i, lanes);
    squares = fma(v, v, squares);
  });
  const Vec factor = set(1.0f / square_root(sum(squares) / static_cast<float>(width) + epsilon));
  for_lanes(width, [&](int64_t i, auto lanes) { store(y + i, mul(mul(load(x + i, lanes), factor), load(weight + i, lanes)), lanes); });
}

template <class T>
void rotary_row(const T* x, const float* cos, const float* sin, int64_t half, T* y) {
  for_lanes(half, [&](int64_t i, auto lanes) {
    const Vec a = load(x + i, lanes), b = load(x + half + i, lanes);
    const Vec c = load(cos + i, lanes), s = load(sin + i, lanes);
    store(y + i, sub(mul(a, c), mul(b, s)), lanes);
    store(y + half + i, add(mul(b, c), mul(a, s)), lanes);
  });
}

template <class T>
void add_rows(const T* a, const T* b, int64_t n, T* y) {
  for_lanes(n, [&](int64_t i, auto lanes) { store(y + i, add(load(a + i, lanes), load(b + i, lanes)), lanes); });
}

template <class T>
void mul_row(const T* x, float factor, int64_t n, T* y) {
  for_lanes(n, [&](int64_t i, auto lanes) { store(y + i, mul(load(x + i, lanes), set(factor)), lanes); });
}

template <class T>
void softcap_row(const T* x, float cap, int64_t n, T* y) {
  for_lanes(n, [&](int64_t i, auto lanes) { store(y + i, mul(set(cap), tanh(div(load(x + i, lanes), set(cap)))), lanes); });
}

// x / (1 + exp(-u)): silu for u = x; (1 + tanh(v)) / 2 = 1 / (1 + exp(-2v)) makes it gelu's tanh form for u = 2v.
inline Vec times_sigmoid(Vec x, Vec u) { return div(x, add(set(1), exp(sub(set(0), u)))); }

template <class T>
void gelu_mul_row(const T* gate, const T* up, int64_t n, T* y) {
  constexpr float kTwoSqrt2OverPi = 1.5957691216f;
  for_lanes(n, [&](int64_t i, auto lanes) {
    const Vec x = load(gate + i, lanes);
    const Vec u = mul(mul(x, set(kTwoSqrt2OverPi)), fma(mul(x, x), set(0.044715f), set(1)));
    store(y + i, mul(times_sigmoid(x, u), load(up + i, lanes)), lanes);
  });
}

template <class T>
void silu_mul_row(const T* gate, const T* up, int64_t n, T* y) {
  for_lanes(n, [&](int64_t i, auto lanes) {
    const Vec x = load(gate + i, lanes);
    store(y + i, mul(times_sigmoid(x, x), load(up + i, lanes)), lanes);
  });
}

template <class T>
void relu2_row(const T* x, int64_t n, T* y) {
  for_lanes(n, [&](int64_t i, auto lanes) {
    const Vec positive = max(set(0), load(x + i, lanes));
    store(y + i, mul(positive, positive), lanes);
  });
}

template <class From, class To>
void convert_row(const From* x, int64_t n, To* y) {
  for_lanes(n, [&](int64_t i, auto lanes) { store(y + i, load(x + i, lanes), lanes); });
}

template <class T>
constexpr TypedRowKernels<T> kTypedRows{rms_norm_row<T>, rotary_row<T>,   add_rows<T>,     mul_row<T>,
                                        softcap_row<T>,  gelu_mul_row<T>, silu_mul_row<T>, relu2_row<T>};

constexpr RowKernels kRowTable{kTypedRows<float>, kTypedRows<uint16_t>, convert_row<float, uint16_t>, convert_row<uint16_t, float>};

}  // namespace
}  // namespace tessera::cpu

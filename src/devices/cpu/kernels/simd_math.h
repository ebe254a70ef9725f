#pragma once
// Functions on a Vec of simd_avx2.h or simd_avx512.h, which the including file names first. About 1 ulp (tanh 2); every lane is computed
// alike, so that a value never depends on its place. A NaN gives a NaN.
#include <cstdint>

namespace tessera::cpu {
namespace {

// 2^(n + f) for whole n and |f| <= 1/2: 1 + f * polynomial, fitted to 2e-9.
inline Vec exp2_of_parts(Vec n, Vec f) {
  Vec p = set(0x1.41fbbap-13f);
  p = fma(p, f, set(0x1.5f3e54p-10f));
  p = fma(p, f, set(0x1.3b2d4cp-7f));
  p = fma(p, f, set(0x1.c6aee8p-5f));
  p = fma(p, f, set(0x1.ebfbdcp-3f));
  p = fma(p, f, set(0x1.62e430p-1f));
  return scale_by_power(fma(p, f, set(1)), n);
}

// For x <= 128.
inline Vec exp2(Vec x) {
  x = max(set(-160), x);
  const Vec n = round(x);
  return exp2_of_parts(n, sub(x, n));
}

inline Vec exp(Vec x) {
  const Vec log2e = set(0x1.715476p+0f), log2e_low = set(0x1.4ae0c0p-26f);
  x = min(set(110), max(set(-110), x));
  const Vec n = round(mul(x, log2e));
  return exp2_of_parts(n, fma(x, log2e_low, fma(x, log2e, sub(set(0), n))));
}

// Below 5/8 an odd polynomial, fitted to 5e-9; above, by exp.
inline Vec tanh(Vec x) {
  const Vec z = mul(x, x);
  Vec p = set(-0x1.76abf6p-8f);
  p = fma(p, z, set(0x1.5256cep-6f));
  p = fma(p, z, set(-0x1.b84448p-5f));
  p = fma(p, z, set(0x1.110768p-3f));
  p = fma(p, z, set(-0x1.555534p-2f));
  const Vec small = fma(mul(p, z), x, x);
  const Vec large = sub(set(1), div(set(2), add(exp(add(x, x)), set(1))));
  return select_less(abs(x), set(0.625f), small, large);
}

// body(i, lanes) for each group of lanes of [0, n): AllLanes, then the number that is left.
template <class Body>
inline void for_lanes(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, AllLanes{});
  if (i < n) body(i, static_cast<int>(n - i));
}

}  // namespace
}  // namespace tessera::cpu

#include "probes.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/error.h"
#include "cpu/isa.h"

namespace tessera {
namespace {

// Reads `lines` of 64 bytes, fetching `ahead` bytes before they are used.
using ReadLines = int64_t (*)(const std::byte* data, int64_t lines, int64_t ahead);

__attribute__((target("avx512f"))) int64_t read_lines_avx512(const std::byte* data, int64_t lines, int64_t ahead) {
  __m512i sums[4] = {};
  for (int64_t line = 0; line + 4 <= lines; line += 4, data += 256)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (ahead) _mm_prefetch(reinterpret_cast<const char*>(data + 64 * i + ahead), _MM_HINT_T0);
      sums[i] = _mm512_add_epi64(sums[i], _mm512_load_si512(data + 64 * i));
    }
  return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3])));
}

__attribute__((target("avx2"))) int64_t read_lines_avx2(const std::byte* data, int64_t lines, int64_t ahead) {
  __m256i sums[4] = {};
  for (int64_t line = 0; line + 2 <= lines; line += 2, data += 128)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (ahead && i % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(data + 32 * i + ahead), _MM_HINT_T0);
      sums[i] = _mm256_add_epi64(sums[i], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + 32 * i)));
    }
  const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return sum[0] + sum[1] + sum[2] + sum[3];
}

// Sixteen instructions a step, in as many sums as keep the processor busy: sixteen with AVX-512, eight in turns with AVX2.
using MultiplySteps = float (*)(int64_t steps);

__attribute__((target("avx512f,avx512bf16"))) float multiply_bfloat16_avx512(int64_t steps) {
  __m512 sums[16] = {};
  const __m512i x = _mm512_set1_epi32(0x3F803F80);
  for (int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)x, (__m512bh)x);
      asm volatile("" : "+v"(sums[i]));
    }
  float total = 0;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) total += sums[i][0];
  return total;
}

__attribute__((target("avx512f"))) float multiply_float32_avx512(int64_t steps) {
  __m512 sums[16] = {};
  const __m512 x = _mm512_set1_ps(1.0f);
  for (int64_t step = 0; step < steps; ++step)
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      sums[i] = _mm512_fmadd_ps(x, x, sums[i]);
      asm volatile("" : "+v"(sums[i]));
    }
  float total = 0;
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) total += sums[i][0];
  return total;
}

__attribute__((target("avx2,fma"))) float multiply_float32_avx2(int64_t steps) {
  __m256 sums[8] = {};
  const __m256 x = _mm256_set1_ps(1.0f);
  for (int64_t step = 0; step < 2 * steps; ++step)
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      sums[i] = _mm256_fmadd_ps(x, x, sums[i]);
      asm volatile("" : "+x"(sums[i]));
    }
  float total = 0;
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) total += sums[i][0];
  return total;
}

struct Probes {
  ReadLines read_lines;
  struct {
    MultiplySteps run;
    int operations;  // of an instruction
  } bfloat16, float32;
};

Probes probes() {
  if (cpu::supported(cpu::Isa::avx512)) return {read_lines_avx512, {multiply_bfloat16_avx512, 64}, {multiply_float32_avx512, 32}};
  check(cpu::supported(cpu::Isa::avx2), "probe: this processor has neither AVX-512 nor AVX2");
  return {read_lines_avx2, {multiply_float32_avx2, 16}, {multiply_float32_avx2, 16}};
}

}  // namespace

double seconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double read_rate(ThreadPool& pool, std::span<const std::span<const std::byte>> blocks) {
  constexpr size_t piece = 1 << 20;
  size_t bytes = 0;
  for (const auto& block : blocks) bytes += block.size();
  const ReadLines read_lines = probes().read_lines;
  std::atomic<int64_t> sink = 0;
  double best = 0;
  for (int64_t ahead : {0, 2048, 8192}) {
    const double time = seconds([&] {
      for (const auto& block : blocks)
        pool.parallel_for(static_cast<int64_t>((block.size() + piece - 1) / piece), [&](int64_t i, int) {
          const size_t first = static_cast<size_t>(i) * piece, count = std::min(piece, block.size() - first);
          sink += read_lines(block.data() + first, static_cast<int64_t>(count / 64), ahead);
        });
    });
    best = std::max(best, static_cast<double>(bytes) / time);
  }
  return best;
}

double multiply_rate(ThreadPool& pool, Multiply kind) {
  constexpr int64_t steps = 100'000, pieces = 32;
  const auto [multiply, operations] = kind == Multiply::bfloat16 ? probes().bfloat16 : probes().float32;
  std::atomic<float> sink = 0;
  return static_cast<double>(steps * pieces) * 16 * operations /
         seconds([&, run = multiply] { pool.parallel_for(pieces, [&](int64_t, int) { sink = run(steps); }); });
}

}  // namespace tessera

// How fast is a linear, beside what the machine can read from memory and multiply in the same minute?
//
//   linear_bench [THREADS [ROUNDS [OUTxIN ...]]]      for example: linear_bench 2 9 10240x2560 2048x640
//
// One row: bytes of packed weights a second, against plain reads of the same memory right before it. More rows: floating-point operations a
// second, against a loop of vdpbf16ps (float32 multiply-adds for float32 rows) right before it. Weights smaller than 256 MB are repeated, so
// that none comes from a cache. Every line has best and median, and the median of the rounds' ratios to the probe.
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "cpu/linear.h"

namespace {

using tessera::DataType;
using tessera::cpu::Isa;
using tessera::cpu::PackedWeight;
using tessera::cpu::ThreadPool;

double seconds(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Reads `lines` of 64 bytes, fetching `ahead` bytes before they are used.
__attribute__((target("avx512f"))) int64_t read_lines(const std::byte* data, int64_t lines, int64_t ahead) {
  __m512i sums[4] = {};
  for (int64_t line = 0; line + 4 <= lines; line += 4, data += 256)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (ahead) _mm_prefetch(reinterpret_cast<const char*>(data + 64 * i + ahead), _MM_HINT_T0);
      sums[i] = _mm512_add_epi64(sums[i], _mm512_load_si512(data + 64 * i));
    }
  return _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3])));
}

// Bytes a second of plain reads of the weights: the best of several prefetch distances.
double read_rate(ThreadPool& pool, const std::vector<PackedWeight>& weights) {
  constexpr size_t piece = 1 << 20;
  const int64_t pieces = static_cast<int64_t>((weights[0].bytes() + piece - 1) / piece);
  std::atomic<int64_t> sink = 0;
  double best = 0;
  for (int64_t ahead : {0, 2048, 8192}) {
    const double time = seconds([&] {
      for (const PackedWeight& weight : weights)
        pool.parallel_for(pieces, [&](int64_t i, int) {
          const size_t first = static_cast<size_t>(i) * piece, count = std::min(piece, weight.bytes() - first);
          sink += read_lines(weight.panel(0) + first, static_cast<int64_t>(count / 64), ahead);
        });
    });
    best = std::max(best, static_cast<double>(weights.size() * weights[0].bytes()) / time);
  }
  return best;
}

__attribute__((target("avx512f,avx512bf16"))) float multiply_bfloat16(int64_t steps) {
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

__attribute__((target("avx512f"))) float multiply_float32(int64_t steps) {
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

double multiply_rate(ThreadPool& pool, bool bfloat16) {
  constexpr int64_t steps = 100'000, pieces = 32;
  const double operations = static_cast<double>(steps * pieces) * 16 * (bfloat16 ? 64 : 32);
  std::atomic<float> sink = 0;
  return operations / seconds([&] {
           pool.parallel_for(pieces, [&](int64_t, int) { sink = bfloat16 ? multiply_bfloat16(steps) : multiply_float32(steps); });
         });
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Sample {
  double rate, probe;
};

void report(const std::string& what, const std::vector<Sample>& samples, const char* unit) {
  std::vector<double> rates, ratios, probes;
  for (auto [rate, probe] : samples) rates.push_back(rate), probes.push_back(probe), ratios.push_back(rate / probe);
  std::printf("%-58s best %7.1f median %7.1f %s; probe best %7.1f median %7.1f; ratio %.0f %%\n", what.c_str(),
              *std::max_element(rates.begin(), rates.end()) / 1e9, median(rates) / 1e9, unit,
              *std::max_element(probes.begin(), probes.end()) / 1e9, median(probes) / 1e9, 100 * median(ratios));
  std::fflush(stdout);
}

struct Shape {
  int64_t out, in;
};

void bench(ThreadPool& pool, Isa isa, Shape shape, DataType format, DataType x_type, int rounds) {
  constexpr size_t largest_cache = 256 << 20;
  std::vector<float> values(static_cast<size_t>(64 * shape.in));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2001) - 1000) * 1.00001e-3f;
  const std::vector<tessera::WeightPart> parts(static_cast<size_t>(shape.out / 64),
                                               {reinterpret_cast<const std::byte*>(values.data()), tessera::StoredType::float32, 64});
  std::vector<PackedWeight> weights;
  do weights.push_back(PackedWeight::pack(pool, isa, format, parts, shape.in));
  while (weights.size() * weights[0].bytes() < largest_cache);

  for (int64_t rows : {1, 2, 4, 8, 32, 128, 512}) {
    std::vector<float> x(static_cast<size_t>(rows * shape.in), 0.125f), y(static_cast<size_t>(rows * shape.out));
    const double operations = 2.0 * static_cast<double>(rows * shape.out * shape.in);
    if (operations > 2e11) continue;
    std::vector<Sample> reads, multiplies;
    for (int round = 0; round < rounds; ++round) {
      const double read_probe = rows <= 8 ? read_rate(pool, weights) : 0;
      const double multiply_probe = rows > 1 ? multiply_rate(pool, x_type == DataType::bfloat16) : 0;
      size_t count = rows == 1 ? weights.size() : std::min<size_t>(weights.size(), static_cast<size_t>(1 + 2e10 / operations));
      const double time = seconds([&] {
        for (size_t i = 0; i < count; ++i)
          tessera::cpu::linear(pool, isa, weights[i], rows, {x.data(), x_type, shape.in}, {y.data(), DataType::float32, shape.out});
      });
      reads.push_back({static_cast<double>(count * weights[0].bytes()) / time, read_probe});
      multiplies.push_back({static_cast<double>(count) * operations / time, multiply_probe});
    }
    const std::string what = tessera::message(tessera::cpu::name(isa), " ", format, " ", shape.out, "x", shape.in, ", ", x_type, " rows: ", rows);
    if (rows <= 8) report(what, reads, "GB/s");
    if (rows > 1) report(what, multiplies, "GFLOP/s");
  }
}

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 7;
  const Isa isa = tessera::cpu::default_isa();
  std::vector<Shape> shapes;
  for (int i = 3; i < argc; ++i) {
    Shape shape{};
    if (std::sscanf(argv[i], "%ldx%ld", &shape.out, &shape.in) == 2) shapes.push_back(shape);
  }
  if (shapes.empty()) shapes = {{10240, 2560}, {2048, 640}};
  std::printf("%d threads, %d rounds\n", pool.size(), rounds);
  for (const Shape& shape : shapes) {
    for (DataType format : {DataType::bfloat8_b, DataType::bfloat16, DataType::bfloat4_b})
      bench(pool, isa, shape, format, DataType::bfloat16, rounds);
    for (DataType format : {DataType::float32, DataType::bfloat16})
      bench(pool, isa, shape, format, DataType::float32, rounds);
  }
}

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/error.h"
#include "cpu/linear.h"
#include "onednn_matmul.h"
#include "probes.h"

namespace {

constexpr const char* kHelp =
    "How fast is a linear, beside what the machine can read from memory and multiply in the same minute?\n\n"
    "  linear_bench [THREADS [ROUNDS [OUTxIN ...]]]      for example: linear_bench 2 9 10240x2560 2048x640\n\n"
    "If not given: 1 thread, 7 rounds, those two shapes. OUT is a multiple of 64.\n\n"
    "One row: bytes of packed weights a second, against plain reads of the same memory right before it. More rows: floating-point\n"
    "operations a second, against a loop of vdpbf16ps (multiply-adds for float32 rows, and where there is no vdpbf16ps) right before it;\n"
    "from 32 rows on also against oneDNN's matmul right after it, where that is installed. Weights smaller than 256 MB are repeated, so\n"
    "that none comes from a cache. Every line has best and median, and the median of the rounds' ratios.\n";

using tessera::DataType;
using tessera::seconds;
using tessera::ThreadPool;
using tessera::cpu::Isa;
using tessera::cpu::PackedWeight;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Sample {
  double rate, probe;
};

void report(const std::string& what, const std::vector<Sample>& samples, const char* unit, const std::string& beside = "probe") {
  std::vector<double> rates, ratios, probes;
  for (auto [rate, probe] : samples) rates.push_back(rate), probes.push_back(probe), ratios.push_back(rate / probe);
  std::printf("%-58s best %7.1f median %7.1f %s; %s best %7.1f median %7.1f; ratio %.0f %%\n", what.c_str(),
              *std::max_element(rates.begin(), rates.end()) / 1e9, median(rates) / 1e9, unit, beside.c_str(),
              *std::max_element(probes.begin(), probes.end()) / 1e9, median(probes) / 1e9, 100 * median(ratios));
  std::fflush(stdout);
}

struct Shape {
  int64_t out, in;
};

// `count` normally distributed numbers of a type, in memory for as many of float32.
std::vector<float> normal_rows(int64_t count, DataType type) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  auto* const narrow = reinterpret_cast<tessera::bfloat16*>(values.data());
  for (int64_t i = 0; i < count; ++i)
    if (type == DataType::float32)
      values[static_cast<size_t>(i)] = normal(random);
    else
      narrow[i] = tessera::to_bfloat16(normal(random));
  return values;
}

void bench(ThreadPool& pool, Isa isa, Shape shape, DataType format, DataType x_type, int rounds) {
  constexpr size_t largest_cache = 256 << 20;
  std::vector<float> values(static_cast<size_t>(64 * shape.in));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2001) - 1000) * 1.00001e-3f;
  const std::vector<tessera::WeightPart> parts(static_cast<size_t>(shape.out / 64),
                                               {reinterpret_cast<const std::byte*>(values.data()), tessera::StoredType::float32, 64});
  std::vector<PackedWeight> weights;
  do weights.push_back(PackedWeight::pack(pool, isa, format, parts, shape.in));
  while (weights.size() * weights[0].bytes() < largest_cache);
  std::vector<std::span<const std::byte>> blocks;
  for (const PackedWeight& weight : weights) blocks.emplace_back(weight.panel(0), weight.bytes());

  for (int64_t rows : {1, 2, 4, 8, 32, 128, 512}) {
    std::vector<float> y(static_cast<size_t>(rows * shape.out));
    const std::vector<float> x = normal_rows(rows * shape.in, x_type);
    const double operations = 2.0 * static_cast<double>(rows * shape.out * shape.in);
    if (operations > 2e11) continue;
    std::vector<Sample> reads, multiplies, beside_onednn;
    const auto kind = x_type == DataType::bfloat16 ? tessera::Multiply::bfloat16 : tessera::Multiply::float32;
    const auto onednn = rows >= 32 ? tessera::onednn_matmul(kind, rows, shape.out, shape.in, pool.size()) : std::nullopt;
    if (onednn) onednn->run();  // prepares itself
    for (int round = 0; round < rounds; ++round) {
      if (onednn) std::this_thread::sleep_for(std::chrono::milliseconds(20));  // its threads spin a while after their work
      const double read_probe = rows <= 8 ? tessera::read_rate(pool, blocks) : 0;
      const double multiply_probe = rows > 1 ? tessera::multiply_rate(pool, kind) : 0;
      size_t count = rows == 1 ? weights.size() : std::min<size_t>(weights.size(), static_cast<size_t>(1 + 2e10 / operations));
      const double time = seconds([&] {
        for (size_t i = 0; i < count; ++i)
          tessera::cpu::linear(pool, isa, weights[i], rows, {x.data(), x_type, shape.in}, {y.data(), DataType::float32, shape.out});
      });
      reads.push_back({static_cast<double>(count * weights[0].bytes()) / time, read_probe});
      multiplies.push_back({static_cast<double>(count) * operations / time, multiply_probe});
      if (onednn) beside_onednn.push_back({multiplies.back().rate, operations / seconds(onednn->run)});
    }
    const std::string what =
        tessera::message(tessera::cpu::name(isa), " ", format, " ", shape.out, "x", shape.in, ", ", x_type, " rows: ", rows);
    if (rows <= 8) report(what, reads, "GB/s");
    if (rows > 1) report(what, multiplies, "GFLOP/s");
    if (onednn) report(what, beside_onednn, "GFLOP/s", onednn->name);
  }
}

// A whole number, at least 1.
int count_of(const char* text) {
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  tessera::check(*end == 0 && value >= 1 && value <= 1'000'000, "'", text,
                 "' is no number of threads or rounds; --help tells the arguments");
  return static_cast<int>(value);
}

Shape shape_of(const char* text) {
  Shape shape{};
  int end = 0;
  const bool read = std::sscanf(text, "%ldx%ld%n", &shape.out, &shape.in, &end) == 2 && text[end] == 0;
  tessera::check(read && shape.out >= 64 && shape.out % 64 == 0 && shape.in >= 1, "'", text,
                 "' is no shape OUTxIN; --help tells the arguments");
  return shape;
}

void bench_all(std::span<char*> arguments) {
  ThreadPool pool(arguments.empty() ? 1 : count_of(arguments[0]));
  const int rounds = arguments.size() < 2 ? 7 : count_of(arguments[1]);
  const Isa isa = tessera::cpu::default_isa();
  std::vector<Shape> shapes;
  for (size_t i = 2; i < arguments.size(); ++i) shapes.push_back(shape_of(arguments[i]));
  if (shapes.empty()) shapes = {{10240, 2560}, {2048, 640}};
  std::printf("%d threads, %d rounds\n", pool.size(), rounds);
  for (const Shape& shape : shapes) {
    for (DataType format : {DataType::bfloat8_b, DataType::bfloat16, DataType::bfloat4_b})
      bench(pool, isa, shape, format, DataType::bfloat16, rounds);
    for (DataType format : {DataType::float32, DataType::bfloat16}) bench(pool, isa, shape, format, DataType::float32, rounds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::span arguments(argv + 1, static_cast<size_t>(argc - 1));
  for (const std::string_view argument : arguments)
    if (argument == "--help" || argument == "-h") return std::fputs(kHelp, stdout) < 0;
  try {
    bench_all(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "linear_bench: %s\n", error.what());
    return 1;
  }
}

// What this machine reads and multiplies, as one line of JSON: machine_probe [THREADS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "core/machine.h"
#include "probes.h"

int main(int argc, char** argv) {
  tessera::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : tessera::available_threads());
  constexpr size_t bytes = size_t{1} << 29;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(64, bytes));
  if (!data) return 4;
  std::fill(data, data + bytes, std::byte{1});
  const std::span<const std::byte> block(data, bytes);
  const double read = tessera::read_rate(pool, std::span(&block, 1));
  std::printf("{\"threads\": %d, \"read_bytes_per_second\": %.0f, \"bfloat16_flop_per_second\": %.0f}\n", pool.size(), read,
              tessera::multiply_rate(pool, tessera::Multiply::bfloat16));
  std::free(data);
}

// Times the cpu device's attention: attention_bench [threads] [isa] [shape] [cache type]. For decodes GB/s of keys and values, beside plain
// reads of the same pages just before; for prompts GFLOP/s of the scores and sums that the rows see. The best of many times.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "core/machine.h"
#include "cpu/attention.h"

using namespace tessera;
using namespace tessera::cpu;

namespace {

struct Heads {
  const char* name;
  int64_t heads, kv_heads, head_dim;
  std::optional<int64_t> window;
};

int threads = 1;

// Of one thread the processor's time, which other processes disturb less.
double now() {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds(const auto& run) {
  const double start = now();
  run();
  return now() - start;
}

double best_seconds(const auto& run) {
  double best = seconds(run), total = 0;
  for (int round = 0; round < 5 || (total < 0.3 && round < 2000); ++round) {
    const double time = seconds(run);
    best = std::min(best, time);
    total += time;
  }
  return best;
}

// Query, key, value and output rows, and a cache filled up to `context` tokens, of `layers` alike so that a small one does not stay in L1.
class Bench {
 public:
  Bench(ThreadPool& pool, Isa isa, const Heads& shape, DataType activations, DataType cache_type, int64_t context, int64_t layers)
      : pool_(pool),
        attention_(pool, isa),
        shape_(shape),
        type_(activations),
        context_(context),
        layers_(layers),
        cache_({std::vector<CacheLayer>(static_cast<size_t>(layers), {shape.kv_heads, shape.head_dim, shape.window})}, cache_type,
               std::array{(context + kPageTokens - 1) / kPageTokens}) {
    table_.pages.resize(static_cast<size_t>((context + kPageTokens - 1) / kPageTokens));
    std::iota(table_.pages.begin(), table_.pages.end(), 0);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto numbers = static_cast<size_t>(context * (2 * shape.heads + shape.kv_heads) * shape.head_dim);
    data_.resize(numbers);
    for (size_t i = 0; i < std::min<size_t>(numbers, 1 << 20); ++i) {
      const float x = normal(random);
      if (type_ == DataType::bfloat16)
        data_[i] = std::bit_cast<float>(to_bfloat16(x).bits | static_cast<uint32_t>(to_bfloat16(x).bits) << 16);
      else
        data_[i] = x;
    }
    for (int64_t layer = 0; layer < layers; ++layer) append(layer, 0, context);
  }

  void append(int64_t layer, int64_t position, int64_t count) {
    cache_.append(pool_, layer, std::vector{CacheSlice{0, count, position, &table_}}, rows(count, shape_.kv_heads),
                  rows(count, shape_.kv_heads));
  }

  void attend(int64_t position, int64_t count) {
    Rows out = rows(count, shape_.heads);
    out.data = data_.data() + static_cast<size_t>(context_ * shape_.heads * shape_.head_dim);
    attention_.attend(cache_, std::vector{CacheSlice{0, count, position, &table_}}, rows(count, shape_.heads), out,
                      {.layer = layer_++ % layers_, .scale = 0.06f, .window = shape_.window});
  }

  int64_t seen(int64_t position) const { return shape_.window ? std::min(*shape_.window, position + 1) : position + 1; }

  double bytes(int64_t position) const {
    return static_cast<double>(2 * cache_.layer(0).part_bytes * static_cast<size_t>(shape_.kv_heads * seen(position))) / kPageTokens;
  }

  // Reads what a decode at `position` reads, 16 pages a piece.
  void read(int64_t position) {
    const KvCache::Layer& layer = cache_.layer(layer_++ % layers_);
    const int64_t first = (position + 1 - seen(position)) / kPageTokens, last = position / kPageTokens + 1;
    const int64_t parts = (last - first + 15) / 16;
    std::vector<uint64_t> sums(static_cast<size_t>(parts * 2 * shape_.kv_heads));
    pool_.parallel_for(static_cast<int64_t>(sums.size()), [&](int64_t piece, int) {
      const int64_t page = first + piece % parts * 16, head = piece / parts;  // heads of keys, then of values
      const auto* from = reinterpret_cast<const uint64_t*>(cache_.keys(layer, static_cast<int32_t>(page), head));
      const auto* to = reinterpret_cast<const uint64_t*>(cache_.keys(layer, static_cast<int32_t>(std::min(last, page + 16)), head));
      uint64_t sum[16] = {};
      for (; from + 16 <= to; from += 16)
        for (int i = 0; i < 16; ++i) sum[i] ^= from[i];
      sums[static_cast<size_t>(piece)] = std::accumulate(sum, sum + 16, uint64_t{0});
    });
    sink_ = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  }

 private:
  Rows rows(int64_t count, int64_t heads) {
    return {data_.data(), type_, count, heads, shape_.head_dim, heads * shape_.head_dim, shape_.head_dim};
  }

  ThreadPool& pool_;
  Attention attention_;
  Heads shape_;
  DataType type_;
  int64_t context_, layers_, layer_ = 0;
  KvCache cache_;
  PageTable table_;
  std::vector<float> data_;
  volatile uint64_t sink_ = 0;
};

void run(ThreadPool& pool, Isa isa, const Heads& shape, DataType activations, DataType cache_type, int64_t context) {
  Bench bench(pool, isa, shape, activations, cache_type, context, std::max<int64_t>(1, 16384 / context));
  const int64_t last = context - 1;
  const double read = best_seconds([&] { bench.read(last); });
  const double decode = best_seconds([&] { bench.attend(last, 1); });
  const double gigabytes = bench.bytes(last) / 1e9;
  const double flop_a_key = 4.0 * static_cast<double>(shape.heads * shape.head_dim);
  std::printf("%-22s %-8s on %-9s %6ld  decode %8.1f us %6.1f GB/s (read %6.1f) %6.0f GFLOP/s", shape.name, name(activations).data(),
              name(cache_type).data(), context, decode * 1e6, gigabytes / decode, gigabytes / read,
              flop_a_key * static_cast<double>(bench.seen(last)) / decode / 1e9);
  const int64_t chunk = std::min<int64_t>(512, context), start = context - chunk;
  double keys = 0;
  for (int64_t p = start; p < context; ++p) keys += static_cast<double>(bench.seen(p));
  const double prefill = best_seconds([&] { bench.attend(start, chunk); }), append = best_seconds([&] { bench.append(0, start, chunk); });
  std::printf("  last %ld rows %8.0f us %6.0f GFLOP/s, append %6.0f us\n", chunk, prefill * 1e6, keys * flop_a_key / prefill / 1e9,
              append * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  threads = argc > 1 ? std::atoi(argv[1]) : available_threads();
  Isa isa = default_isa();
  for (Isa i : supported_isas())
    if (argc > 2 && name(i) == argv[2]) isa = i;
  ThreadPool pool(threads);
  std::printf("%d threads, %s\n", threads, name(isa).data());
  constexpr DataType kF32 = DataType::float32, kBf16 = DataType::bfloat16, kBf8 = DataType::bfloat8_b;
  const Heads gemma_270m{"270M 4/1 x 256", 4, 1, 256, std::nullopt}, sliding{"270M window 512", 4, 1, 256, 512};
  const Heads gemma_4b{"4B 8/4 x 256", 8, 4, 256, std::nullopt}, phi3{"Phi-3 32/32 x 96", 32, 32, 96, std::nullopt};
  const Heads small{"9/3 x 64", 9, 3, 64, std::nullopt};
  for (const Heads& shape : {gemma_270m, sliding, gemma_4b, phi3, small}) {
    if (argc > 3 && !std::string_view(shape.name).starts_with(argv[3])) continue;
    for (auto [activations, cache] : {std::pair{kBf16, kBf16}, {kBf16, kBf8}, {kF32, kF32}}) {
      if (argc > 4 && name(cache) != argv[4]) continue;
      for (int64_t context : {512, 4096}) run(pool, isa, shape, activations, cache, context);
    }
  }
}

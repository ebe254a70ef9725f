// One hash of the logits' bits, whatever the threads, the chunks, the neighbours and the history of the cache: the contract of
// docs/architecture.md, held for every precision on every instruction set of this machine.
#include <gtest/gtest.h>

#include <bit>
#include <iostream>
#include <map>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "thinned.h"
#include "tiny_models.h"

namespace tessera {
namespace {

constexpr size_t kPrompt = 600;  // past the window of 512
constexpr size_t kRows = 40;     // the last ones, whose logits are hashed

uint64_t hash(uint64_t seed, std::span<const float> row) {  // FNV-1a
  for (float value : row)
    for (uint32_t bits = std::bit_cast<uint32_t>(value), i = 0; i < 4; ++i, bits >>= 8) seed = (seed ^ (bits & 0xFF)) * 0x100000001b3ull;
  return seed;
}

struct Setting {
  cpu::Isa isa;
  ModelOptions options;
};

struct Run {
  int threads;
  int64_t chunk;
};

std::string describe(const Setting& s) {
  return message(cpu::name(s.isa), ", weights ", s.options.weights, ", activations ", s.options.activations, ", cache ", s.options.cache);
}

// A model on a device of its own with room for some sequences.
class Bench {
 public:
  Bench(const TinyCheckpoint& checkpoint, const Setting& setting, int threads, int64_t chunk)
      : device_({.threads = threads, .isa = setting.isa}),
        model_(checkpoint.load(device_, setting.options)),
        cache_(device_, model_->spec().cache,
               {.dtype = setting.options.cache, .max_tokens = 4000, .max_sequences = 5, .prefix_cache = false}),
        generator_(*model_, device_, cache_, chunk) {}

  std::unique_ptr<Sequence> sequence(std::vector<TokenId> tokens) {
    auto made = cache_.create();
    made->tokens = std::move(tokens);
    return made;
  }
  Cache& cache() { return cache_; }
  const cpu::CpuDevice& device() const { return device_; }

  // Feeds the sequences side by side; the hash of each one's last rows.
  std::vector<uint64_t> hashes(const std::vector<Sequence*>& sequences, size_t rows = kRows) {
    std::vector<Generator::Request> requests;
    for (Sequence* s : sequences) requests.push_back({s, static_cast<int64_t>(std::min(rows, s->tokens.size()))});
    std::vector<uint64_t> found(sequences.size(), 0xcbf29ce484222325ull);
    generator_.forward(requests,
                       [&](size_t request, int64_t, std::span<const float> logits) { found[request] = hash(found[request], logits); });
    for (const auto& request : requests) EXPECT_EQ(request.error, nullptr);
    return found;
  }
  uint64_t hash_of(Sequence& sequence, size_t rows = kRows) { return hashes({&sequence}, rows)[0]; }

 private:
  cpu::CpuDevice device_;
  std::unique_ptr<Model> model_;
  Cache cache_;
  Generator generator_;
};

void expect_one_hash(const TinyCheckpoint& checkpoint, const Setting& setting, size_t prompt_tokens) {
  SCOPED_TRACE(describe(setting));
  const std::vector<TokenId> prompt = random_tokens(prompt_tokens, 1);
  std::map<int, int> pools;
  std::optional<uint64_t> expected;
  const auto expect_same = [&](uint64_t found, const std::string& what) {
    if (!expected) expected = found;
    EXPECT_EQ(found, *expected) << what;
  };
  const std::vector<Run> runs{{4, 512}, {2, 512}, {1, 512}, {2, 1}, {4, 31}, {1, 31}, {2, 31}};
  for (const auto& [threads, chunk] : thinned(runs, 3)) {
    Bench bench(checkpoint, setting, threads, chunk);
    ++pools[bench.device().threads()];
    const std::string where = message(threads, " threads, chunks of ", chunk);
    const auto lone = bench.sequence(prompt);
    expect_same(bench.hash_of(*lone), where + ", lone");
    if (chunk == 1) continue;  // a forward a token: once
    const auto a = bench.sequence(random_tokens(97, 2)), b = bench.sequence(prompt), c = bench.sequence(random_tokens(5, 3));
    expect_same(bench.hashes({a.get(), b.get(), c.get()})[1], where + ", with neighbours");
  }
  for (const auto& [threads, count] : pools)
    std::cout << describe(setting) << ": pool of " << threads << " threads, " << count << " runs\n";
}

void expect_history_does_not_matter(const TinyCheckpoint& checkpoint, const Setting& setting) {
  SCOPED_TRACE(describe(setting));
  const std::vector<TokenId> prompt = random_tokens(kPrompt, 1);
  Bench bench(checkpoint, setting, 4, 512);
  const auto fresh = bench.sequence(prompt);
  const uint64_t expected = bench.hash_of(*fresh, 1);

  const auto trunk = bench.sequence({prompt.begin(), prompt.begin() + 590});
  bench.hash_of(*trunk, 1);
  const auto fork = bench.cache().fork(*trunk);
  trunk->tokens.insert(trunk->tokens.end(), {7, 8, 9});  // the trunk goes elsewhere, into the shared page
  bench.hash_of(*trunk, 1);
  fork->tokens = prompt;
  EXPECT_EQ(bench.hash_of(*fork, 1), expected) << "forked";

  bench.cache().truncate(*trunk, 590);  // within the tokens kept behind the window
  EXPECT_GT(trunk->length(), 0);
  trunk->tokens = prompt;
  EXPECT_EQ(bench.hash_of(*trunk, 1), expected) << "truncated and grown again";

  fork->tokens.insert(fork->tokens.end(), 300, 5);
  bench.hash_of(*fork, 1);
  bench.cache().truncate(*fork, 100);  // the window's pages are gone: computed anew
  fork->tokens = prompt;
  EXPECT_EQ(bench.hash_of(*fork, 1), expected) << "truncated far back";
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (cpu::Isa isa : cpu::supported_isas()) {
    const auto add = [&](DataType weights, DataType activations, DataType cache) { all.push_back({isa, {weights, activations, cache}}); };
    add(DataType::bfloat16, DataType::bfloat16, DataType::bfloat16);
    add(DataType::bfloat8_b, DataType::bfloat16, DataType::bfloat16);
    add(DataType::bfloat4_b, DataType::bfloat16, DataType::bfloat8_b);
    add(DataType::float32, DataType::float32, DataType::float32);
    add(DataType::float32, DataType::bfloat16, DataType::bfloat16);
    add(DataType::bfloat8_b, DataType::float32, DataType::bfloat16);
  }
  return thinned(all, 5);
}

TEST(determinism, gemma3_gives_the_same_bits_for_any_threads_chunks_and_neighbours) {
  for (const Setting& setting : settings()) expect_one_hash(tiny_gemma3(), setting, kSanitizerBuild ? 150 : kPrompt);
}

TEST(determinism, phi3_gives_the_same_bits_for_any_threads_chunks_and_neighbours) {
  for (const Setting& setting : settings())
    if (setting.options.weights != DataType::float32) expect_one_hash(tiny_phi3(false), setting, 150);
}

TEST(determinism, qwen2_with_its_biases_gives_the_same_bits_for_any_threads_chunks_and_neighbours) {
  for (const Setting& setting : thinned(settings(), 2)) expect_one_hash(TinyCheckpoint("small-qwen2"), setting, 60);
}

TEST(determinism, every_family_gives_the_same_bits_for_any_threads_chunks_and_neighbours) {
  for (const char* name : {"small-llama", "small-mistral", "small-qwen3", "small-ministral3", "small-smollm3", "small-arcee",
                           "small-granite", "small-gemma2", "small-olmo2", "small-olmo3", "small-qwen3-moe", "small-olmoe"})
    for (const Setting& setting : thinned(settings(), 4)) expect_one_hash(TinyCheckpoint(name), setting, 60);
}

TEST(determinism, a_caches_history_does_not_show) {
  for (const Setting& setting : thinned(settings(), 2)) expect_history_does_not_matter(tiny_gemma3(), setting);
}

}  // namespace
}  // namespace tessera

// Times the choice of a token from a row of 262,144 logits, on one thread: sampling_bench [logits.npy]. Of normal logits with a few peaks,
// and of the rows that `tessera run --logits` wrote, of the same width. The best and the mean of many times; rows take turns, so that they
// come from where the last one has left them.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "generate/sampler.h"

using namespace tessera;

namespace {

constexpr int64_t kVocab = 262144;

// Standard deviation 3; `peak` above the mean five of them.
std::vector<float> normal_rows(int64_t rows, float peak) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(static_cast<size_t>(rows * kVocab));
  for (float& logit : logits) logit = normal(random);
  for (int64_t row = 0; row < rows; ++row)
    for (int i = 0; i < 5; ++i) logits[static_cast<size_t>(row * kVocab) + random() % kVocab] = peak - static_cast<float>(i);
  return logits;
}

std::vector<float> read_rows(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto rows = static_cast<int64_t>(file.tellg()) / (kVocab * 4);
  std::vector<float> logits(static_cast<size_t>(rows * kVocab));
  file.seekg(-rows * kVocab * 4, std::ios::end);
  file.read(reinterpret_cast<char*>(logits.data()), rows * kVocab * 4);
  return file ? logits : std::vector<float>();
}

// The processor's time, which other processes disturb less.
double now() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void run(const char* what, const std::vector<float>& logits, const auto& choose) {
  const auto rows = static_cast<int64_t>(logits.size()) / kVocab;
  double best = 1e9, sum = 0;
  int times = 0;
  for (int64_t i = 0; sum < 0.5 || times < 20; ++i) {
    const std::span<const float> row(logits.data() + i % rows * kVocab, kVocab);
    const double start = now();
    choose(row, static_cast<uint64_t>(i));
    const double seconds = now() - start;
    if (i < rows) continue;
    best = std::min(best, seconds);
    sum += seconds;
    ++times;
  }
  std::printf("  %-40s best %7.1f us, mean %7.1f us\n", what, best * 1e6, sum / times * 1e6);
}

void run_all(const char* rows, const std::vector<float>& logits) {
  std::printf("%s\n", rows);
  const std::vector<TokenId> tokens{1, 2, 3};
  run("greedy", logits, [](auto row, uint64_t) { return argmax(row, kVocab); });
  const auto sampled = [&](const char* what, const SamplingParams& params) {
    Sampler sampler(params, {});
    run(what, logits, [&](auto row, uint64_t i) {
      const int64_t enough = sampler.enough(1);
      if (enough > 1)
        if (const auto token = sampler.sample(topk(row, kVocab, enough), tokens.size(), 1, i)) return *token;
      return sampler.sample(row, tokens, 1, i);
    });
  };
  sampled("top_k 64, top_p 0.95", {.top_k = 64, .top_p = 0.95});
  sampled("top_k 255", {.top_k = 255});
  sampled("top_p 0.95", {.top_p = 0.95});
  sampled("top_p 0.999", {.top_p = 0.999});
  sampled("min_p 0.05", {.min_p = 0.05});
  sampled("all", {});
  sampled("all, temperature 10", {.temperature = 10});
}

}  // namespace

int main(int argc, char** argv) {
  run_all("normal, peak 17", normal_rows(8, 17.0f));
  run_all("normal, no peaks", normal_rows(8, 0.0f));
  if (argc < 2) return 0;
  const std::vector<float> logits = read_rows(argv[1]);
  if (!logits.empty()) return run_all(argv[1], logits), 0;
  std::fprintf(stderr, "sampling_bench: %s has no rows of %ld logits\n", argv[1], static_cast<long>(kVocab));
  return 1;
}

#pragma once
#include <string>
#include <vector>

#include "cli/session.h"

namespace tessera {

// `tessera bench`: how fast a model reads prompts and generates, in the flags, columns and field names of llama.cpp's llama-bench.
struct BenchOptions {
  ModelFlags model;
  std::vector<int64_t> prompts{512}, generated{128}, depths{0}, parallel{1};
  std::vector<int> threads;  // empty: one run with the default
  int64_t repetitions = 5;
  std::string output = "md";
  bool warmup = true;
};

void add_bench(CLI::App& app, BenchOptions& options);
int bench(const BenchOptions& options);

}  // namespace tessera

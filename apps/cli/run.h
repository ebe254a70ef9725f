#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cli/prompt.h"
#include "cli/session.h"
#include "generate/sampler.h"

namespace tessera {

// `tessera run`: one raw prompt, streamed.
struct RunOptions {
  ModelFlags model;
  PromptFlags prompt;
  std::optional<std::string> logits_file;
  std::optional<int64_t> new_tokens;
  std::optional<double> temperature, top_p, min_p;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool print_ids = false;
};

void add_run(CLI::App& app, RunOptions& options);
int run(const RunOptions& options);

}  // namespace tessera

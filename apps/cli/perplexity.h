#pragma once
#include <optional>
#include <string>

#include "cli/flags.h"

namespace tessera {

// `tessera perplexity`: how well a model foretells a text.
struct PerplexityOptions {
  ModelFlags model;
  PromptFlags text;
  WindowFlags windows;
  std::optional<std::string> json;
};

void add_perplexity(CLI::App& app, PerplexityOptions& options);
int perplexity(const PerplexityOptions& options);

}  // namespace tessera

#pragma once
#include <optional>
#include <string>

#include "cli/flags.h"

namespace tessera {

// `tessera eval`: teacher forcing against a saved reference, making one, or two precisions of one model side by side.
struct EvalOptions {
  ModelFlags model;
  PromptFlags text;
  WindowFlags windows;
  Precision against;
  std::optional<std::string> reference, save_reference, json;
  int64_t new_tokens = 100;
  int64_t top = 64;
};

void add_eval(CLI::App& app, EvalOptions& options);
int eval(const EvalOptions& options);

}  // namespace tessera

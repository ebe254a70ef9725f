#pragma once
#include <optional>
#include <string>

#include "cli/flags.h"

namespace tessera {

// `tessera compare`: one forward on two sides, op by op.
struct CompareOptions {
  ModelFlags model;
  PromptFlags text;
  std::optional<std::string> other_model, other_device;
  Precision other;
  std::optional<std::string> against, hf_type, hf_save, html, json;
  std::optional<double> threshold;
  bool hf = false, all = false;
};

void add_compare(CLI::App& app, CompareOptions& options);
int compare(const CompareOptions& options);

}  // namespace tessera

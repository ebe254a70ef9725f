#pragma once
#include <optional>
#include <string>

#include "models/registry.h"

namespace CLI {
class App;
}

namespace tessera {

// `tessera plan`: whether a model fits a device's memory, from config.json alone.
struct PlanOptions {
  std::string model, device = "n150";
  Precision precision;
  int64_t context = 0, sequences = 1;
  int trace = 0;  // 1: the card records its decodes
  double gigabytes = 0;
  std::optional<std::string> json;
};

void add_plan(CLI::App& app, PlanOptions& options);
int plan(const PlanOptions& options);

}  // namespace tessera

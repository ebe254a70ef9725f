#pragma once
#include <optional>
#include <string>

#include "models/description.h"

namespace CLI {
class App;
}

namespace tessera {

// `tessera inspect`: what a checkpoint is and what memory it takes, from its config files and headers alone.
struct InspectOptions {
  std::string model;
  bool tensors = false;
  std::optional<std::string> json;
};

void add_inspect(CLI::App& app, InspectOptions& options);
int inspect(const InspectOptions& options);

int64_t parameters(const ModelDescription& model);
size_t packed_bytes(const ModelDescription& model, DataType weights);  // that the CPU takes for them

}  // namespace tessera

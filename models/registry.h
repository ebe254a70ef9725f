#pragma once
#include <memory>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weights.h"
#include "ops/model.h"

namespace tessera {

// The model that a checkpoint's config.json names, with its weights packed on `device`. Throws FileError for an architecture that is not
// here, listing those that are, and for a config or weights that do not fit each other; ResourceError when memory is short.
std::unique_ptr<Model> load_model(Checkpoint& checkpoint, Device& device, const ModelOptions& options, const Weights::Progress& progress = {});

}  // namespace tessera

#pragma once
#include <memory>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "ops/model.h"

namespace tessera {

// Phi-3 (mini, 4k and 128k) and what shares its layout. `config` is the whole config.json.
std::unique_ptr<Model> make_phi3(const ConfigReader& config, Weights& weights);

}  // namespace tessera

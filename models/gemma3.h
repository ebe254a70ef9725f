#pragma once
#include <memory>

#include "checkpoint/config.h"
#include "checkpoint/weights.h"
#include "ops/model.h"

namespace tessera {

// Gemma 3's language model: a text checkpoint, or the text part of a multimodal one. `config` is the whole config.json.
std::unique_ptr<Model> make_gemma3(const ConfigReader& config, Weights& weights);

}  // namespace tessera

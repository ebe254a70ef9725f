#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weights.h"
#include "ops/model.h"

namespace tessera {

// The data types asked for; what is not set: weights as stored (float32 where bfloat16 would lose digits), bfloat16 activations, a
// cache of the activations' type.
struct Precision {
  std::optional<DataType> weights, activations, cache;
};

struct ModelDescription;

struct LoadedModel {
  std::unique_ptr<Model> model;
  ModelOptions options;
  GenerationConfig generation;
  std::vector<std::string> notes;  // odd but harmless: for the user to see
  int64_t num_parameters = 0;      // of what was loaded; a tied embedding's count once
};

// The model that a checkpoint's config.json names, with its weights packed on `device`. Throws FileError for an architecture that is not
// here, listing those that are, and for a config and weights that do not fit each other; ResourceError when memory is short;
// std::invalid_argument for types that do not go together.
LoadedModel load_model(const Checkpoint& checkpoint, Device& device, const Precision& precision, const Weights::Progress& progress = {});
// The same of what describe_model gave of this checkpoint: no file is opened again.
LoadedModel load_model(const Checkpoint& checkpoint, const ModelDescription& description, Device& device, const Precision& precision,
                       const Weights::Progress& progress = {});

// The same from weights that lie elsewhere; `architecture` as in config.json's architectures ("Phi3ForCausalLM").
std::unique_ptr<Model> make_model(const std::string& architecture, const ConfigReader& config, Weights& weights);

// What load_model loads, as config.json names it.
struct ArchitectureName {
  std::string name, model_type;
  std::string model;  // the first name that the same C++ model goes by
};
std::vector<ArchitectureName> architectures();

ModelOptions resolve(const Precision& precision, std::span<const StoredTensor> tensors);
ModelOptions resolve(const Precision& precision, DataType stored);  // `stored`: the weights' type when none is asked for

}  // namespace tessera

#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "ops/device.h"
#include "ops/model.h"

namespace tessera {

// What a checkpoint holds, from config.json and the tensors' headers alone.
struct ModelDescription {
  struct Weight {
    WeightSpec spec;  // as a device is asked to pack it; its options are not set
    bool exact;       // all its values are exact in bfloat16, by the type that they are stored in
  };

  std::string architecture;
  ModelSpec spec;
  std::vector<Weight> weights;
  DataType stored;                    // the weights' type when none is asked for
  std::vector<StoredTensor> tensors;  // all of the checkpoint that have a name here
  GenerationConfig generation;
  std::vector<std::string> notes;
  std::shared_ptr<WeightSource> source = nullptr;  // of describe_model: open, for load_model
};

// Throws what load_model throws for a bad checkpoint. Packs nothing.
ModelDescription describe_model(const Checkpoint& checkpoint);

// The same from config.json alone, with no tensors, no generation config and with the type that it says the weights are stored in;
// `architecture` as make_model takes it.
ModelDescription describe_config(const std::string& architecture, const ConfigReader& config);
// describe_model, or describe_config where the weights are not there.
ModelDescription describe_config(const Checkpoint& checkpoint);

}  // namespace tessera

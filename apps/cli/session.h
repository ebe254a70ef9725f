#pragma once
#include <memory>
#include <optional>
#include <string>

#include "generate/generator.h"
#include "kinds/memory_plan.h"
#include "models/registry.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace tessera {

// The flags by which every command names a model, its precision and its place.
struct ModelFlags {
  std::string model, device = "cpu";
  int device_id = 0;  // of cards
  int device_timeout = kDeviceTimeout;
  int trace = 0;                    // 1: the card's decodes are recorded and replayed
  std::optional<std::string> twin;  // "card": the cpu computes as the card does
  int threads = 0;                  // 0: available_threads()
  Precision precision;
  int64_t context = 0;  // 0: the checkpoint's own, or what memory holds
  int64_t batch = 0;    // 0: what the device takes
};

void add_model_flags(CLI::App& command, ModelFlags& flags);
// PREFIXweightsSUFFIX, PREFIXactivationsSUFFIX and PREFIXcacheSUFFIX; "--" and "" are the model's own, a suffix is of another side.
void add_precision_flags(CLI::App& command, const std::string& prefix, const std::string& suffix, Precision& precision);

// A loaded model with everything that a command needs around it.
class Session {
 public:
  // Loads with a progress bar; `sequences` may live at a time. Without a device, the flags name one.
  explicit Session(const ModelFlags& flags, int64_t sequences = 1, std::shared_ptr<Device> device = nullptr);
  // The same of a checkpoint that is open already, and perhaps described, whatever model the flags name.
  Session(Checkpoint checkpoint, std::optional<ModelDescription> description, const ModelFlags& flags, int64_t sequences,
          std::shared_ptr<Device> device);

  Checkpoint& checkpoint() { return checkpoint_; }
  const ModelDescription& description() const { return description_; }  // its source is closed
  const std::shared_ptr<Device>& device() { return device_; }
  const Model& model() const { return *loaded_.model; }
  const ModelOptions& options() const { return loaded_.options; }
  const GenerationConfig& generation() const { return loaded_.generation; }
  Cache& cache() { return *cache_; }
  Generator& generator() { return *generator_; }
  const Tokenizer& tokenizer();  // loaded at the first call
  int64_t context() const { return context_; }
  int threads() const { return threads_; }  // for work beside the device
  double load_seconds() const { return load_seconds_; }

 private:
  Checkpoint checkpoint_;
  ModelDescription description_;
  std::shared_ptr<Device> device_;
  LoadedModel loaded_;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<Generator> generator_;
  std::optional<Tokenizer> tokenizer_;
  int64_t context_ = 0;
  int threads_;
  double load_seconds_ = 0;
};

std::unique_ptr<Device> open_device(const ModelFlags& flags);

}  // namespace tessera

#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "generate/generator.h"
#include "generate/saved_sequence.h"
#include "kinds/device_kinds.h"
#include "kinds/memory_plan.h"
#include "models/description.h"
#include "models/registry.h"
#include "text/tokenizer.h"

namespace tessera {

// Which model is loaded, with what precision, and where.
struct LoadOptions {
  std::string model, device = "cpu";
  std::optional<std::string> revision;  // of a model that is named by an id
  int device_id = 0;                    // of cards
  int device_timeout = kDeviceTimeout;
  int trace = 0;                    // 1: the card's decodes are recorded and replayed
  std::optional<std::string> twin;  // "card": the cpu computes as the card does
  int threads = 0;                  // 0: available_threads()
  Precision precision;
  int64_t context = 0;                           // 0: the checkpoint's own, or what memory holds
  int64_t batch = 0;                             // 0: what the device takes
  std::optional<std::string> generation_config;  // of what generates as it says: auto, none or a file
};

// What is told while a model is loaded.
struct LoadWatch {
  std::function<void(const std::string&)> note = [](const std::string&) {};  // odd but harmless: for the user to see
  Weights::Progress progress = {};
  std::string without_generation_config = "generation_config none";  // how it is asked for, in an error's text
};

// Opens what the options name.
Checkpoint open_checkpoint(const LoadOptions& options);

// A loaded model with all that lets it run: its device, cache, generator and tokenizer.
class RunningModel {
 public:
  // How much of the memory it takes, and for how many: decided before anything is loaded.
  struct Sizes {
    Load load;
    CacheOptions cache;
  };
  using Size = std::function<Sizes(const MemoryPlan& plan)>;
  // `sequences` of up to the context may live at a time, with pages for all; throws what MemoryPlan throws.
  static Size alike(const LoadOptions& options, int64_t sequences);
  // They share a cache of so many bytes; 0: of what they can all fill, or what memory leaves; 0 sequences: kMaxNumSeqs, or as many as there
  // is room for. Throws what MemoryPlan throws. `options` must outlive it, as that of alike.
  static constexpr int64_t kMaxNumSeqs = 32;
  static Size sharing(const LoadOptions& options, int64_t sequences, size_t bytes);

  // Throws what load_model and `size` throw, and FileError for a generation config that asks for what is not supported.
  RunningModel(Checkpoint checkpoint, std::optional<ModelDescription> description, std::shared_ptr<Device> device,
               const LoadOptions& options, const Size& size, const LoadWatch& watch);

  Checkpoint& checkpoint() { return checkpoint_; }
  const ModelDescription& description() const { return description_; }  // its source is closed
  const std::shared_ptr<Device>& device() { return device_; }
  const Model& model() const { return *loaded_.model; }
  const ModelOptions& options() const { return loaded_.options; }
  const GenerationConfig& generation() const { return loaded_.generation; }
  Cache& cache() { return *cache_; }
  Generator& generator() { return *generator_; }
  // What pages that this model made are of, for saved sequences.
  const PagesIdentity& pages_identity() const { return pages_identity_; }
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
  PagesIdentity pages_identity_;
  std::optional<Tokenizer> tokenizer_;
  int64_t context_ = 0;
  int threads_;
  double load_seconds_ = 0;
};

}  // namespace tessera

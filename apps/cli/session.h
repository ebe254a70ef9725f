#pragma once
#include <memory>
#include <optional>
#include <string>

#include "cli/flags.h"
#include "generate/generator.h"
#include "generate/saved_sequence.h"
#include "generate/speculation.h"
#include "models/description.h"
#include "text/tokenizer.h"

namespace tessera {

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
  // What pages that this session's model made are of, for saved sequences.
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

std::unique_ptr<Device> open_device(const ModelFlags& flags);

// What the file that `flag` names holds; nullopt: it is not there. Throws, before anything is loaded, where the device's sequences cannot
// be saved, the file is not one of them, or it could not be written again.
std::optional<SavedSequence> open_saved(const std::string& flag, const std::string& path, const ModelFlags& model);

// A drafter with what it needs around it. It goes before the session that it drafts for.
struct Drafting {
  std::unique_ptr<Session> session = nullptr;  // the draft model's, on the device of the model that it drafts for
  std::unique_ptr<Drafter> drafter = nullptr;  // none was asked for: null
  int64_t most = 0;
};

// Throws std::invalid_argument when the draft model has other tokens than the session's.
Drafting open_drafting(const SpeculationFlags& flags, const ModelFlags& model, Session& session, const Sampler& sampler);

}  // namespace tessera

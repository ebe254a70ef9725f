#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/flags.h"
#include "engine/running_model.h"
#include "generate/speculation.h"

namespace tessera {

// A model that a command runs: it shows a progress bar while it loads, and tells what it notes.
class Session : public RunningModel {
 public:
  // `sequences` may live at a time. Without a device, the flags name one.
  explicit Session(const ModelFlags& flags, int64_t sequences = 1, std::shared_ptr<Device> device = nullptr);
  // The same of a checkpoint that is open already, and perhaps described, whatever model the flags name.
  Session(Checkpoint checkpoint, std::optional<ModelDescription> description, const ModelFlags& flags, int64_t sequences,
          std::shared_ptr<Device> device);
  // For many requests at once: the sequences share a pool of pages, of which the flags and memory tell the size; it is told.
  Session(const ModelFlags& flags, const CacheFlags& cache, std::shared_ptr<Device> device = nullptr);
};

// `lost` is to leave the process when a card does not answer any more, and does so by itself where none is given.
std::unique_ptr<Device> open_device(const ModelFlags& flags, std::function<void(const std::string& why)> lost = {});

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

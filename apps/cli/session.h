#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cpu/cpu_device.h"
#include "generate/generator.h"
#include "models/description.h"
#include "models/registry.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace tessera {

constexpr int64_t kLongestContext = int64_t{1} << 30;  // that can be asked for, in tokens

constexpr int kDeviceTimeout = 600;  // seconds that a call to a card may take; a program is compiled in some of them

// The flags by which every command names a model, its precision and its place.
struct ModelFlags {
  std::string model, device = "cpu";
  int device_id = 0;  // of cards
  int device_timeout = kDeviceTimeout;
  int trace = 0;                    // 1: the card's decodes are recorded and replayed
  std::optional<std::string> twin;  // "card": the cpu computes as the card does
  int threads = 0;                  // 0: all processors
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
  // The same of a checkpoint that is open already, whatever model the flags name.
  Session(Checkpoint checkpoint, const ModelFlags& flags, int64_t sequences, std::shared_ptr<Device> device);

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

// A field of a file under /proc that counts in kB ("MemAvailable:" of /proc/meminfo), in bytes; nullopt if it is not there.
std::optional<int64_t> kernel_bytes(const char* path, std::string_view field);

// Memory that may be taken without swapping, in bytes.
int64_t available_memory();

// The device that the flags name: the cpu, or what the program has offered.
std::unique_ptr<Device> open_device(const ModelFlags& flags);

// The n150 is reached through the vendor's Python module: the Python package offers it.
using OpenDevice = std::function<std::unique_ptr<Device>(const ModelFlags& flags)>;
void offer_n150(OpenDevice open);
bool has_n150();

}  // namespace tessera

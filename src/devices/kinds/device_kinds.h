#pragma once
// The one table of devices: how each is opened, what memory it has, and what a model takes of it.
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/machine.h"
#include "models/description.h"
#include "ops/device.h"

namespace tessera {

inline constexpr int kDeviceTimeout = 600;  // seconds that a call to a card may take; a program is compiled in some of them

// How a device is opened; a twin, trace or device_id that it has no use for is refused.
struct OpenOptions {
  int threads = 0;                                                 // of the cpu; 0: available_threads()
  std::optional<std::string> twin = {};                            // of the cpu: cpu::parse_twin
  int device_id = 0;                                               // which of several cards
  bool trace = false;                                              // a card records its decodes and replays them
  int timeout = kDeviceTimeout;                                    // seconds; 0: for ever
  std::optional<std::string> module = {};                          // Python's, in place of ttnn
  std::function<void(const std::string&)> hung = {}, notice = {};  // ttnn::Patience, ttnn::Traces::Tell
};

// What a model would be run with.
struct Load {
  DataType weights, activations, cache;
  int64_t context;      // tokens of a sequence, prompt and answer
  int64_t sequences;    // that live at a time
  bool traced = false;  // a card records its decodes
};

struct DeviceKind {
  std::string name;
  bool is_card;                                                     // one process has it at a time, and it may hang
  std::function<std::unique_ptr<Device>(const OpenOptions&)> open;  // none: this program does not have it
  Memory (*memory)();                                               // that may be taken where nothing of ours lies yet
  Limits limits;
  void (*check_load)(const Load&);                             // throws std::invalid_argument for what it does not compute with
  void (*check_model)(const ModelDescription&);                // the same, whatever its types and its context
  size_t (*weight_bytes)(const WeightSpec& spec, bool exact);  // exact: all its values are exact in bfloat16
  size_t (*cache_bytes)(const CacheSpec& spec, DataType dtype, std::span<const int64_t> pages);
  // Of a forward. widest: of alive_values() of all weights.
  size_t (*working_bytes)(const Load& load, int64_t widest, int64_t vocab);
};

const std::vector<DeviceKind>& device_kinds();

// Throws std::invalid_argument for a name that is not there.
const DeviceKind& device_kind(std::string_view name);

// The n150 is reached through the vendor's Python module: the Python extension, which has it, says here how. Once, before any use.
void set_open(std::string_view name, std::function<std::unique_ptr<Device>(const OpenOptions&)> open);

// Throws std::invalid_argument for options that are another kind's, and for a device that this program does not have.
std::unique_ptr<Device> open_device(std::string_view name, const OpenOptions& options);

}  // namespace tessera

#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/weight_source.h"
#include "core/kept_file.h"
#include "core/mapped_file.h"
#include "ops/device.h"

namespace tessera {

// The weights that a device packed, in a file that the next load maps instead of packing them again: kept for as long as the source, the
// device's layout and the type of the weights are the same. What goes wrong with the file only means that there is none.
class KeptWeights {
 public:
  // Opens the file, or prepares to write it. `source` is what the device will be handed.
  KeptWeights(std::filesystem::path path, const WeightSource& source, const Device& device, DataType weights);

  // The weight as the file has it; empty: it must be packed, and what the device keeps of it handed to keep_of(spec).
  Tensor take(Device& device, const WeightSpec& spec);
  Device::Keep keep_of(const WeightSpec& spec);

  // All is taken: keeps it if it was packed; `notes` are what the source's values gave cause to. Gives the notes of the values: these, or
  // those that were kept.
  std::vector<std::string> finish(const std::vector<std::string>& notes);

 private:
  void add(const std::string& name, std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::string identity_;
  std::shared_ptr<const MappedFile> file_;
  std::optional<KeptFile> found_;
  std::unique_ptr<KeptFileWriter> writer_;  // null: nothing is written
};

}  // namespace tessera

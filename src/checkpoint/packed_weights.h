#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_source.h"
#include "core/packed_file.h"
#include "ops/device.h"

namespace tessera {

// The weights that a device packed, in a file that the next load maps instead of packing them again: kept for as long as the source, the
// device's layout and the type of the weights are the same. What goes wrong with the file only means that there is none.
class PackedWeights {
 public:
  // Opens the file, or prepares to write it. `source` is what the device will be handed.
  PackedWeights(std::filesystem::path path, const WeightSource& source, const Device& device, DataType weights);

  // The weight as the file has it; empty: it must be packed, with spec.keep set by this.
  Tensor take(Device& device, WeightSpec& spec);

  // All is taken: keeps it if it was packed; `notes` are what the source's values gave cause to. Gives the notes of the values: these, or
  // those that were kept.
  std::vector<std::string> finish(const std::vector<std::string>& notes);

 private:
  void add(const std::string& name, std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::string identity_;
  std::shared_ptr<const MappedFile> file_;
  std::optional<PackedFile> found_;
  std::unique_ptr<PackedFileWriter> writer_;  // null: nothing is written
};

}  // namespace tessera

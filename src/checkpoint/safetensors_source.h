#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "checkpoint/weight_source.h"
#include "core/mapped_file.h"

namespace tessera {

// The weights of a directory as Hugging Face writes it: model.safetensors, or else model.safetensors.index.json and the shards that it
// names. Everything is mapped and validated at once; the data are read when they are lent (MappedFile states what holds when another
// process changes a file).
class SafetensorsSource final : public WeightSource {
 public:
  // Throws FileError: no such files, only pickles (never read), a file that isn't what its format says, an index and shards
  // that contradict each other, two tensors of one canonical name.
  explicit SafetensorsSource(const std::filesystem::path& directory);

  std::span<const std::byte> lend(std::string_view name) override;
  void drop(std::span<const std::byte> bytes) override;
  void release(std::string_view name) override;
  std::string identity() const override { return identity_; }

 private:
  struct Place {
    size_t file;
    uint64_t begin, end;
  };
  struct Found;

  std::vector<Found> open_file(const std::string& path);
  std::vector<Found> open_shards(const std::filesystem::path& directory);
  void set_tensors(std::vector<Found> found);
  const Place& place(std::string_view name) const;

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::string identity_;                                               // of all of them, and of their headers
  std::vector<Place> places_;                                          // of tensors_
  std::map<std::string, std::vector<std::byte>, std::less<>> copies_;  // of lent tensors that stand misaligned in their file
};

}  // namespace tessera

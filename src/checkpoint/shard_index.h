#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// model.safetensors.index.json: which file each tensor of a sharded checkpoint is in.
struct ShardIndex {
  struct Entry {
    std::string tensor;
    size_t shard;  // index into shards
  };
  std::vector<std::string> shards;     // plain file names beside the index, sorted, each once
  std::vector<Entry> entries;          // sorted by tensor, each once
  std::optional<uint64_t> total_size;  // metadata.total_size, where it is an integer >= 0
};

// Throws FileError, naming the tensor, unless weight_map is an object of plain "*.safetensors" file names: no path, no control character.
ShardIndex parse_shard_index(std::string_view text, const std::string& source);

// Bytes of an index that are read: room for about a million tensors.
inline constexpr size_t kMostIndexBytes = 100'000'000;

}  // namespace tessera

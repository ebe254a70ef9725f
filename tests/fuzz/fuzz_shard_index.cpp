#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "checkpoint/shard_index.h"
#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const tessera::ShardIndex index = tessera::parse_shard_index({reinterpret_cast<const char*>(data), size}, "index");
    for (const std::string& shard : index.shards) {
      if (shard.find('/') != std::string::npos || shard.find('\0') != std::string::npos || shard.starts_with('.')) std::abort();
    }
    for (const tessera::ShardIndex::Entry& entry : index.entries) {
      if (entry.shard >= index.shards.size()) std::abort();
    }
  } catch (const tessera::FileError&) {
  }
  return 0;
}

#pragma once
#include <map>
#include <string>

#include "checkpoint/weight_source.h"

namespace tessera {

// Weights that lie in this process's memory: a torch module's, or a test's.
class MemorySource final : public WeightSource {
 public:
  struct Item {
    std::string name;  // as stored: canonical_name is applied
    StoredType type;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;  // borrowed for the source's life
  };

  // Throws std::invalid_argument when a name stands twice or a size does not match its shape.
  explicit MemorySource(const std::vector<Item>& items);

  std::span<const std::byte> lend(std::string_view name) override { return bytes_.find(name)->second; }
  void release(std::string_view) override {}

 private:
  std::map<std::string, std::span<const std::byte>, std::less<>> bytes_;
};

}  // namespace tessera

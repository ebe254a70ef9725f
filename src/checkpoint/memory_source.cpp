#include "checkpoint/memory_source.h"

#include <algorithm>

#include "core/error.h"

namespace tessera {
namespace {

std::string_view safetensors_name(StoredType type) {
  return type == StoredType::float32 ? "F32" : type == StoredType::float16 ? "F16" : "BF16";
}

}  // namespace

MemorySource::MemorySource(const std::vector<Item>& items) {
  for (const Item& item : items) {
    const std::optional<std::string> name = canonical_name(item.name);
    if (!name) continue;
    int64_t values = 1;
    for (int64_t dimension : item.shape) values *= dimension;
    check(values * bytes_of(item.type) == static_cast<int64_t>(item.bytes.size()), "tensor '", item.name, "': ", item.bytes.size(),
          " bytes do not hold ", values, " values");
    check(bytes_.emplace(*name, item.bytes).second, "tensor '", *name, "' is given twice");
    tensors_.push_back({*name, item.type, std::string(safetensors_name(item.type)), item.shape, item.bytes.size()});
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
}

}  // namespace tessera

#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>

#include "core/data_type.h"

namespace tessera {

class Device;

// [1, heads, tokens, width]; hidden states are [1, 1, tokens, hidden], a weight is [1, 1, out, in]. Logical and global: a device may
// permute, pad or shard behind it.
using Shape = std::array<int64_t, 4>;

std::ostream& operator<<(std::ostream& out, const Shape& shape);
int64_t volume(const Shape& shape);

// What a device keeps behind a Tensor or a cache; only that device looks inside.
class Storage {
 public:
  virtual ~Storage() = default;
  std::string label = {};  // of a weight, for people: WeightSpec::label
};

// A value, cheap to copy: its storage is shared and belongs to a device, which must outlive it.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Device& device, const Shape& shape, DataType dtype, std::shared_ptr<Storage> storage)
      : device_(&device), shape_(shape), dtype_(dtype), storage_(std::move(storage)) {}

  Device& device() const { return *device_; }
  const Shape& shape() const { return shape_; }
  DataType dtype() const { return dtype_; }
  Storage& storage() const { return *storage_; }
  const std::shared_ptr<Storage>& shared_storage() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  Device* device_ = nullptr;
  Shape shape_{};
  DataType dtype_ = DataType::float32;
  std::shared_ptr<Storage> storage_;
};

}  // namespace tessera

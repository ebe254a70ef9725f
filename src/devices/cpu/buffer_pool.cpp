#include "cpu/buffer_pool.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "core/error.h"

namespace tessera::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMostFree = 64;  // buffers kept

}  // namespace

BufferPool::BufferPool() { free_.reserve(kMostFree); }

std::shared_ptr<std::byte> BufferPool::take(size_t bytes) {
  bytes = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  std::optional<Buffer> found;
  {
    const std::lock_guard lock(mutex_);
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it)
      if (it->bytes >= bytes && it->bytes <= 2 * bytes && (best == free_.end() || it->bytes < best->bytes)) best = it;
    if (best != free_.end()) {
      found = *best;
      free_.erase(best);
    }
  }
  if (!found) {
    found = Buffer{static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes)), bytes};
    check<ResourceError>(found->data != nullptr, "cpu: no memory for ", bytes, " bytes of activations; use a smaller batch");
  }
  return {found->data, [pool = shared_from_this(), buffer = *found](std::byte*) { pool->give_back(buffer); }};
}

void BufferPool::give_back(Buffer buffer) noexcept {
  const std::lock_guard lock(mutex_);
  if (free_.size() == kMostFree) {
    std::free(free_.front().data);
    free_.erase(free_.begin());
  }
  free_.push_back(buffer);
}

BufferPool::~BufferPool() {
  for (const Buffer& buffer : free_) std::free(buffer.data);
}

}  // namespace tessera::cpu

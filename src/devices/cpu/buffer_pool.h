#pragma once
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace tessera::cpu {

// Memory of activations: taken and given back hundreds of times a token, so freed buffers are kept for the next of about their size.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  BufferPool();
  // `bytes` bytes, aligned to 64, contents undefined; given back when the last owner goes. Throws ResourceError.
  std::shared_ptr<std::byte> take(size_t bytes);
  ~BufferPool();

 private:
  struct Buffer {
    std::byte* data;
    size_t bytes;
  };
  void give_back(Buffer buffer) noexcept;

  std::mutex mutex_;
  std::vector<Buffer> free_;  // room for all that are kept is made at once: giving back must not fail
};

}  // namespace tessera::cpu

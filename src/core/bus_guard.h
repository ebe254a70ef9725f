#pragma once
#include <cstddef>

namespace tessera {

// Keeps a mapped file that was cut short (or can't be read from its disk) from killing the process. Reading such a page raises SIGBUS in
// the reading thread; while a BusGuard stands over the mapping, the whole mapping turns into zeros instead, the read goes on, and
// faulted() tells. Works from any thread and needs nothing of the code that reads. A SIGBUS elsewhere goes to the handler that stood
// before the first guard, or kills the process as ever. Whoever installs another SIGBUS handler later must pass on what isn't theirs.
class BusGuard {
 public:
  // [begin, begin + size) is a private read-only mapping that outlives the guard. Throws ResourceError when
  // too many mappings are guarded at a time.
  BusGuard(std::byte* begin, size_t size);
  ~BusGuard();
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;

  bool faulted() const;

  static constexpr size_t kMostGuards = 1024;

 private:
  size_t slot_;
};

}  // namespace tessera

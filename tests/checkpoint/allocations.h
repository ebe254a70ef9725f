#pragma once
#include <cstddef>

namespace tessera::testing {

// This program's operator new and aligned_alloc count; a watch tells what was allocated since it was made. One at a time, one thread.
class AllocationWatch {
 public:
  // The n-th allocation from now on fails (std::bad_alloc or null), as do so many with it, or (0) all after it; n of 0: none. Smaller
  // ones than `least_bytes` are not counted, and do not fail.
  explicit AllocationWatch(size_t failing_from = 0, size_t count_failing = 0, size_t least_bytes = 0);
  ~AllocationWatch();
  size_t largest() const;  // bytes of the largest single allocation
  size_t count() const;
};

}  // namespace tessera::testing

#pragma once
#include <cstddef>

namespace tessera::testing {

// This program's operator new and aligned_alloc count; a watch tells what was allocated since it was made. One at a time, one thread.
class AllocationWatch {
 public:
  // The n-th allocation from now on fails (std::bad_alloc or null), as do all after it; 0: none.
  explicit AllocationWatch(size_t failing_from = 0);
  ~AllocationWatch();
  size_t largest() const;  // bytes of the largest single allocation
  size_t count() const;
};

}  // namespace tessera::testing

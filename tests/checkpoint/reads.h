#pragma once
#include <cstddef>

namespace tessera::testing {

// While one stands, this program's read(2) gives at most one byte at a time, is interrupted every other time, and fails with EIO from the
// n-th time on; 0: never. One at a time, one thread.
class BadReads {
 public:
  explicit BadReads(size_t failing_from);
  ~BadReads();
};

}  // namespace tessera::testing

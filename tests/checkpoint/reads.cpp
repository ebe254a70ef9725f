#include "reads.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace {

std::atomic<bool> bad{false};
std::atomic<size_t> failing_from{0};
std::atomic<size_t> reads{0};

}  // namespace

// Stands before the C library's.
extern "C" ssize_t read(int fd, void* buffer, size_t bytes) {
  if (!bad) return ::syscall(SYS_read, fd, buffer, bytes);
  const size_t number = ++reads;
  if (failing_from != 0 && number >= failing_from) {
    errno = EIO;
    return -1;
  }
  if (number % 2 == 0) {
    errno = EINTR;
    return -1;
  }
  return ::syscall(SYS_read, fd, buffer, std::min<size_t>(bytes, 1));
}

namespace tessera::testing {

BadReads::BadReads(size_t first_failing) {
  reads = 0;
  failing_from = first_failing;
  bad = true;
}

BadReads::~BadReads() { bad = false; }

}  // namespace tessera::testing

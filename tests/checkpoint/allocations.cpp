#include "allocations.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

namespace {

std::atomic<size_t> largest_allocation{0};
std::atomic<size_t> allocations{0};
std::atomic<size_t> failing_from{0}, failing_to{0}, least_counted{0};

bool fails(size_t bytes) {
  if (bytes < least_counted) return false;
  const size_t number = ++allocations;
  if (failing_from != 0 && number >= failing_from && number <= failing_to) return true;
  largest_allocation = std::max(largest_allocation.load(), bytes);
  return false;
}

void* allocate(size_t bytes) {
  if (fails(bytes)) throw std::bad_alloc();
  void* const memory = std::malloc(std::max<size_t>(bytes, 1));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Stands before the C library's.
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  void* memory = nullptr;
  return fails(bytes) || ::posix_memalign(&memory, alignment, bytes) != 0 ? nullptr : memory;
}

void* operator new(size_t bytes) { return allocate(bytes); }
void* operator new[](size_t bytes) { return allocate(bytes); }
// Under the address sanitizer these would otherwise be the sanitizer's own.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return fails(bytes) ? nullptr : std::malloc(std::max<size_t>(bytes, 1));
}
void* operator new[](size_t bytes, const std::nothrow_t& nothrow) noexcept { return operator new(bytes, nothrow); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace tessera::testing {

AllocationWatch::AllocationWatch(size_t first_failing, size_t count_failing, size_t least_bytes) {
  least_counted = least_bytes;
  largest_allocation = 0;
  allocations = 0;
  failing_to = count_failing == 0 ? std::numeric_limits<size_t>::max() : first_failing + count_failing - 1;
  failing_from = first_failing;
}

AllocationWatch::~AllocationWatch() {
  failing_from = 0;
  least_counted = 0;
}

size_t AllocationWatch::largest() const { return largest_allocation; }

size_t AllocationWatch::count() const { return allocations; }

}  // namespace tessera::testing

#include "core/bus_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "core/error.h"

namespace tessera {
namespace {

struct Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<size_t> size{0};
  std::atomic<bool> faulted{false};
};

// A signal handler can only look into memory that is always there, hence a table of fixed size.
std::array<Slot, BusGuard::kMostGuards> slots;
std::mutex slots_mutex;  // of claiming and freeing; the handler reads without it
struct sigaction previous;

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

void pass_on(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    ::sigaction(signal, &previous, nullptr);
    if (info->si_code <= 0) ::raise(signal);  // sent by a process: it doesn't come again by itself
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Slot& slot : slots) {
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    const size_t size = slot.size.load(std::memory_order_relaxed);
    if (info->si_code <= 0 || begin == 0 || address < begin || address - begin >= size) continue;
    slot.faulted.store(true, std::memory_order_release);
    // The bare system call, as a signal handler may make it.
    const long zeros =
        ::syscall(SYS_mmap, begin, size, long{PROT_READ}, long{MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE}, -1L, 0L);
    errno = saved_errno;
    if (zeros != -1) return;
    break;
  }
  errno = saved_errno;
  pass_on(signal, info, context);
}

void install_handler() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  const bool installed = ::sigaction(SIGBUS, &action, &previous) == 0;
  check<std::runtime_error>(installed, "cannot install a SIGBUS handler: ", std::strerror(errno));
}

}  // namespace

BusGuard::BusGuard(std::byte* begin, size_t size) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);
  const std::lock_guard lock(slots_mutex);
  for (slot_ = 0; slot_ < slots.size(); ++slot_) {
    Slot& slot = slots[slot_];
    if (slot.begin.load(std::memory_order_relaxed) != 0) continue;
    slot.faulted.store(false, std::memory_order_relaxed);
    slot.size.store(size, std::memory_order_relaxed);
    slot.begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_release);
    return;
  }
  fail<ResourceError>("more than ", kMostGuards, " checkpoint files are open at a time");
}

BusGuard::~BusGuard() {
  const std::lock_guard lock(slots_mutex);
  slots[slot_].begin.store(0, std::memory_order_release);
}

bool BusGuard::faulted() const { return slots[slot_].faulted.load(std::memory_order_acquire); }

}  // namespace tessera

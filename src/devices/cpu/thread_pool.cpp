#include "cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace tessera::cpu {
namespace {

// state_: the low 16 bits count the workers inside the job; then two flags; then the job's number.
constexpr uint64_t kInside = 0xFFFF;
constexpr uint64_t kOpen = uint64_t{1} << 16;
constexpr uint64_t kStop = uint64_t{1} << 17;
constexpr uint64_t kJob = uint64_t{1} << 18;
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr int kMaxStretches = 8;  // each worker looks into all of them before it rests

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : stretches_(static_cast<size_t>(std::clamp(threads, 1, kMaxStretches))) {
  check(threads >= 1 && threads <= 1024, "threads: ", threads, " is outside 1..1024");
  try {
    for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {
    const size_t made = workers_.size() + 1;
    stop();
    fail<ResourceError>("threads: the system gives no more than ", made, " of ", threads, ": ", error.code().message(), "; ask for fewer");
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  state_.fetch_or(kStop);
  state_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(int64_t pieces, const std::function<void(int64_t, int)>& run) {
  if (pieces <= 1 || workers_.empty()) {
    for (int64_t piece = 0; piece < pieces; ++piece) run(piece, 0);
    return;
  }
  run_ = &run;
  failed_ = false;
  const auto count = static_cast<int64_t>(stretches_.size());
  for (int64_t i = 0; i < count; ++i) {
    stretches_[static_cast<size_t>(i)].next.store(pieces * i / count, std::memory_order_relaxed);
    stretches_[static_cast<size_t>(i)].end = pieces * (i + 1) / count;
  }
  const uint64_t job = (state_.load(std::memory_order_relaxed) & ~(kInside | kOpen)) + kJob;
  state_.store(job | kOpen, std::memory_order_release);
  state_.notify_all();
  take_pieces(0);
  // Closed: a worker that has not come in by now finds nothing to do and is not waited for.
  state_.fetch_and(~kOpen, std::memory_order_acq_rel);
  while (state_.load(std::memory_order_acquire) & kInside) pause();
  if (failed_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::take_pieces(int worker) {
  try {
    for (size_t i = 0; i < stretches_.size(); ++i) {
      Stretch& stretch = stretches_[(static_cast<size_t>(worker) + i) % stretches_.size()];
      while (stretch.next.load(std::memory_order_relaxed) < stretch.end && !failed_.load(std::memory_order_relaxed)) {
        const int64_t piece = stretch.next.fetch_add(1, std::memory_order_relaxed);
        if (piece < stretch.end) (*run_)(piece, worker);
      }
    }
  } catch (...) {
    if (!failed_.exchange(true)) error_ = std::current_exception();
  }
}

void ThreadPool::work(int worker) {
  uint64_t done = 0;  // the last job that this worker saw the end of
  auto idle_since = std::chrono::steady_clock::now();
  for (uint64_t state = state_.load(std::memory_order_acquire);; state = state_.load(std::memory_order_acquire)) {
    if (state & kStop) return;
    if ((state & kOpen) && state / kJob != done) {
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
      take_pieces(worker);
      done = state / kJob;
      state_.fetch_sub(1, std::memory_order_release);
      idle_since = std::chrono::steady_clock::now();
    } else if (std::chrono::steady_clock::now() - idle_since < kSpin) {
      for (int i = 0; i < 32; ++i) pause();
    } else {
      state_.wait(state, std::memory_order_acquire);
    }
  }
}

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace tessera::cpu

#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

// state_: the low 16 bits count the workers inside the job; then two flags; then the job's number.
constexpr uint64_t kInside = 0xFFFF;
constexpr uint64_t kOpen = uint64_t{1} << 16;
constexpr uint64_t kStop = uint64_t{1} << 17;
constexpr uint64_t kJob = uint64_t{1} << 18;
constexpr int64_t kSpin = 100'000;  // nanoseconds
// A worker is held up if the caller waits for it so long, and so many times as long as a piece takes; it rests, longer each time it is held
// up again soon. A processor that is shared takes a thread away for some milliseconds.
constexpr int64_t kHeldUp = 1'000'000, kHeldUpPieces = 4, kFirstRest = 8'000'000, kLongestRest = 512'000'000, kNap = 4'000'000;
constexpr int kMaxStretches = 8;  // each worker looks into all of them before it rests

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

}  // namespace

ThreadPool::ThreadPool(int threads)
    : stretches_(static_cast<size_t>(std::clamp(threads, 1, kMaxStretches))), seats_(static_cast<size_t>(std::clamp(threads, 1, 1024))) {
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
  const int64_t start = now(), own_pieces = take_pieces(0);
  // Closed: a worker that has not come in by now finds nothing to do and is not waited for.
  if (state_.fetch_and(~kOpen, std::memory_order_acq_rel) & kInside) wait_for_workers(now() - start, own_pieces);
  if (failed_) std::rethrow_exception(std::exchange(error_, nullptr));
}

int64_t ThreadPool::take_pieces(int worker) {
  int64_t taken = 0;
  try {
    for (size_t i = 0; i < stretches_.size(); ++i) {
      Stretch& stretch = stretches_[(static_cast<size_t>(worker) + i) % stretches_.size()];
      while (stretch.next.load(std::memory_order_relaxed) < stretch.end && !failed_.load(std::memory_order_relaxed)) {
        const int64_t piece = stretch.next.fetch_add(1, std::memory_order_relaxed);
        if (piece >= stretch.end) break;
        (*run_)(piece, worker);
        ++taken;
      }
    }
  } catch (...) {
    if (!failed_.exchange(true)) error_ = std::current_exception();
  }
  return taken;
}

void ThreadPool::wait_for_workers(int64_t own_nanoseconds, int64_t own_pieces) {
  const int64_t start = now(), patience = std::max(kHeldUp, kHeldUpPieces * own_nanoseconds / std::max<int64_t>(own_pieces, 1));
  bool judged = own_pieces == 0;  // nothing to judge by
  while (state_.load(std::memory_order_acquire) & kInside) {
    for (int i = 0; i < 32; ++i) pause();
    const int64_t waited = now() - start;
    if (waited > kSpin) std::this_thread::yield();  // the one waited for may want this very processor
    if (judged || waited < patience) continue;
    judged = true;
    send_to_rest(start + waited);
  }
}

// All workers inside the job.
void ThreadPool::send_to_rest(int64_t now) {
  for (Seat& seat : seats_) {
    if (!seat.inside.load(std::memory_order_relaxed)) continue;
    const bool again = now < seat.rest_ends + seat.rest;
    seat.rest = again ? std::min(2 * seat.rest, kLongestRest) : kFirstRest;
    seat.rest_ends = now + seat.rest;
    seat.rests_until.store(seat.rest_ends, std::memory_order_relaxed);
  }
}

void ThreadPool::work(int worker) {
  Seat& seat = seats_[static_cast<size_t>(worker)];
  uint64_t done = 0;  // the last job that this worker saw the end of
  int64_t idle_since = now();
  for (uint64_t state = state_.load(std::memory_order_acquire);; state = state_.load(std::memory_order_acquire)) {
    if (state & kStop) return;
    if (const int64_t until = seat.rests_until.load(std::memory_order_relaxed)) {
      const int64_t left = until - now();
      if (left > 0)
        std::this_thread::sleep_for(std::chrono::nanoseconds(std::min(left, kNap)));
      else
        seat.rests_until.store(0, std::memory_order_relaxed);
    } else if ((state & kOpen) && state / kJob != done) {
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
      seat.inside.store(true, std::memory_order_relaxed);
      take_pieces(worker);
      seat.inside.store(false, std::memory_order_relaxed);
      done = state / kJob;
      state_.fetch_sub(1, std::memory_order_release);
      idle_since = now();
    } else if (now() - idle_since < kSpin) {
      for (int i = 0; i < 32; ++i) pause();
    } else {
      state_.wait(state, std::memory_order_acquire);
    }
  }
}

}  // namespace tessera

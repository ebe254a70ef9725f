#pragma once
// A device's threads: workers spin shortly between jobs, then sleep. Work is taken dynamically in fixed pieces, so that the
// pieces, and with them every sum, never depend on the number of threads; a worker that the system holds up delays only its own piece.
// Each worker begins at a place of its own and goes on from there, so that its memory is one long stream; then it helps the others.
// A worker for which the others had to wait, because its processor has other work too, stays out of the jobs for a while.
#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace tessera {

class ThreadPool {
 public:
  // `threads` includes the calling thread; 1 makes no worker. Throws std::invalid_argument outside 1..1024, ResourceError when the system
  // gives no more threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls run(piece, worker) once for each piece in [0, pieces), worker in [0, size()); returns when all are done. The first exception
  // that a piece throws is rethrown here, after the others have ended. Not reentrant, one caller at a time.
  void parallel_for(int64_t pieces, const std::function<void(int64_t piece, int worker)>& run);

 private:
  void work(int worker);
  void stop();
  int64_t take_pieces(int worker);
  void wait_for_workers(int64_t own_nanoseconds, int64_t own_pieces);
  void send_to_rest(int64_t now);

  struct alignas(64) Seat {  // of a worker; times in nanoseconds
    std::atomic<bool> inside = false;
    std::atomic<int64_t> rests_until = 0;  // 0: it does not rest
    int64_t rest = 0, rest_ends = 0;       // its last one, as the caller knows it
  };
  struct alignas(64) Stretch {  // of neighbouring pieces
    std::atomic<int64_t> next = 0;
    int64_t end = 0;
  };

  const std::function<void(int64_t, int)>* run_ = nullptr;
  std::exception_ptr error_;
  std::atomic<bool> failed_ = false;
  std::vector<Stretch> stretches_;
  std::vector<Seat> seats_;
  alignas(64) std::atomic<uint64_t> state_ = 0;  // job number, open and stop flags, workers inside: see thread_pool.cpp
  std::vector<std::thread> workers_;
};

}  // namespace tessera

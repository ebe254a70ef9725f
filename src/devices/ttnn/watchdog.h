#pragma once
// Tells from a thread of its own that a call has not returned in time: the thread that made the call cannot.
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

namespace tessera::ttnn {

class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;

  // `overdue` is called once, on the watchdog's thread, with the name of the first call that has lasted longer than `limit`.
  Watchdog(Clock::duration limit, std::function<void(const char*)> overdue);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // A call while it lasts, on any thread. `watchdog` may be null; `name` is kept as it is.
  class Call {
   public:
    Call(Watchdog* watchdog, const char* name);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    friend Watchdog;
    struct Begun {
      Clock::time_point at;
      const char* name;
    };
    Watchdog* watchdog_;
    std::list<Begun>::iterator begun_;
  };

 private:
  void watch();

  const Clock::duration limit_;
  const std::function<void(const char*)> overdue_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::list<Call::Begun> calls_;  // the oldest first
  std::thread thread_;
};

}  // namespace tessera::ttnn

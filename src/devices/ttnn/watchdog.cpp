#include "ttnn/watchdog.h"

#include <algorithm>
#include <utility>

namespace tessera::ttnn {

Watchdog::Watchdog(Clock::duration limit, std::function<void(const char*)> overdue)
    : limit_(limit), overdue_(std::move(overdue)), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

// It looks now and then: to be woken by every call would cost each of them more than the call itself.
void Watchdog::watch() {
  const Clock::duration period = std::min<Clock::duration>(limit_ / 8, std::chrono::seconds(1));
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, period, [this] { return stop_; })) {
    if (calls_.empty() || Clock::now() - calls_.front().at <= limit_) continue;
    const char* const name = calls_.front().name;
    lock.unlock();
    overdue_(name);
    return;
  }
}

Watchdog::Call::Call(Watchdog* watchdog, const char* name) : watchdog_(watchdog) {
  if (!watchdog_) return;
  const std::lock_guard lock(watchdog_->mutex_);
  begun_ = watchdog_->calls_.insert(watchdog_->calls_.end(), {Clock::now(), name});
}

Watchdog::Call::~Call() {
  if (!watchdog_) return;
  const std::lock_guard lock(watchdog_->mutex_);
  watchdog_->calls_.erase(begun_);
}

}  // namespace tessera::ttnn

#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/signals.h"

namespace tessera {

ProgressBar::ProgressBar(std::string label) : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO)) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void ProgressBar::show(int64_t done, int64_t total) {
  if (!terminal_ || total <= 0) return;
  if (done >= total) return clear();
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(50)) return;
  last_ = now;
  drawn_ = true;
  constexpr int64_t kWidth = 30;
  const auto filled = static_cast<int>(std::clamp<int64_t>(done * kWidth / total, 0, kWidth));
  std::fprintf(stderr, "\r%s [%.*s%*s] %3d%%", label_.c_str(), filled, "##############################", static_cast<int>(kWidth) - filled,
               "", static_cast<int>(done * 100 / total));
  std::fflush(stderr);
}

std::function<void(int64_t, int64_t)> ProgressBar::watched() {
  return [this](int64_t done, int64_t total) {
    SignalWatch::expect_none();
    show(done, total);
  };
}

}  // namespace tessera

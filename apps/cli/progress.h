#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace tessera {

// A progress bar on standard error, on a terminal only; taken away when done.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void show(int64_t done, int64_t total);
  // For what takes long: shows, and throws Interrupted when a signal was noted.
  std::function<void(int64_t done, int64_t total)> watched();

 private:
  void clear();
  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace tessera

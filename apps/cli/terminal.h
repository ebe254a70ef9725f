#pragma once
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>

#include "cli/cli_main.h"  // tell
#include "core/error.h"

namespace tessera {

// SIGINT or SIGTERM arrived.
class Interrupted : public std::exception {
 public:
  explicit Interrupted(int number) : number_(number) {}
  int number() const { return number_; }
  const char* what() const noexcept override { return "interrupted"; }

 private:
  int number_;
};

// Whoever read our standard output has gone.
class ClosedPipe : public std::exception {};

// Standard output cannot be written for another reason: its disk is full, it was closed.
class OutputError : public ResourceError {
 public:
  using ResourceError::ResourceError;
};

// While it stands, SIGINT and SIGTERM are only noted; expect_none throws Interrupted if one was. Another one that comes while one is noted
// leaves the process at once, with the second's exit code: the first may not be looked at for long, or never, where a card hangs.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  static void expect_none();
  static void note(int number);                  // as if this one had arrived
  static void forget_interrupt();                // SIGINT has been answered; SIGTERM stays
  static void second_tells(const char* advice);  // what is told when a second one leaves; a literal
};

// Writes to standard output at once. Throws ClosedPipe or OutputError.
void write_out(std::string_view text);

// Text that may hold foreign bytes (a path, a name out of a file), fit for a terminal: one line of valid UTF-8 in which control characters,
// line and paragraph separators and those that turn the direction of text are written as \u{...}, bytes that are no UTF-8 as \x...
std::string one_line(std::string_view text);

// A progress bar on standard error, on a terminal only; taken away when done.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // For what takes long: shows, and throws Interrupted when a signal was noted.
  std::function<void(int64_t done, int64_t total)> watched();

 private:
  void show(int64_t done, int64_t total);
  void clear();
  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace tessera

#include "cli/signals.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace tessera {
namespace {

// Without locks: a handler uses them.
std::atomic<int> noted = 0;
std::atomic<const char*> advice = nullptr;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free);

void write_error(const char* text) { static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text))); }

// Nothing but what may be done wherever the process stands.
void note(int number) {
  int none = 0;
  if (noted.compare_exchange_strong(none, number)) return;
  if (const char* const text = advice) {
    write_error("\ntessera: ");
    write_error(text);
    write_error("\n");
  }
  ::_exit(128 + number);
}

void install(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

SignalWatch::SignalWatch() {
  noted = 0;
  advice = nullptr;
  install(note);
}

SignalWatch::~SignalWatch() { install(SIG_DFL); }

void SignalWatch::expect_none() {
  if (const int number = noted) throw Interrupted(number);
}

void SignalWatch::second_tells(const char* text) { advice = text; }

void SignalWatch::forget_interrupt() {
  int interrupt = SIGINT;
  noted.compare_exchange_strong(interrupt, 0);
}

void write_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) {
        SignalWatch::expect_none();
        continue;
      }
      if (errno == EPIPE) throw ClosedPipe();
      fail<OutputError>("standard output cannot be written: ", std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace tessera

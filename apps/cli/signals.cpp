#include "cli/signals.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

namespace tessera {
namespace {

volatile std::sig_atomic_t noted = 0;

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
  install([](int number) { noted = number; });
}

SignalWatch::~SignalWatch() { install(SIG_DFL); }

void SignalWatch::expect_none() {
  if (noted) throw Interrupted(noted);
}

void SignalWatch::forget_interrupt() {
  if (noted == SIGINT) noted = 0;
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

#include "cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <utility>

#include "text/utf8.h"

namespace tessera {
namespace {

// Without locks: a handler uses them.
std::atomic<int> noted = 0;
std::atomic<const char*> advice = nullptr;
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free);

void write_error(const char* text) { static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text))); }

// Nothing but what may be done wherever the process stands.
void note_signal(int number) {
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

bool is_unfit(char32_t c) {
  return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x061C || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

SignalWatch::SignalWatch() {
  noted = 0;
  advice = nullptr;
  install(note_signal);
}

SignalWatch::~SignalWatch() { install(SIG_DFL); }

void SignalWatch::note(int number) { note_signal(number); }

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

std::string one_line(std::string_view text) {
  std::ostringstream line;
  line << std::hex;
  while (!text.empty()) {
    const text::Utf8Character character = text::first_character(text);
    const std::string_view bytes = text.substr(0, character.bytes);
    if (!character.valid) {
      for (const char byte : bytes) line << "\\x" << static_cast<unsigned>(static_cast<unsigned char>(byte));
    } else if (is_unfit(character.code_point)) {
      line << "\\u{" << static_cast<uint32_t>(character.code_point) << '}';
    } else {
      line << bytes;
    }
    text.remove_prefix(bytes.size());
  }
  return line.str();
}

void tell(std::string_view text) { std::cerr << "tessera: " + one_line(text) + '\n'; }

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

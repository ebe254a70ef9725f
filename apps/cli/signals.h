#pragma once
#include <exception>
#include <string_view>

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

// While it stands, SIGINT and SIGTERM are only noted; expect_none throws Interrupted if one was.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  static void expect_none();
  static void forget_interrupt();  // SIGINT has been answered; SIGTERM stays
};

// Writes to standard output at once. Throws ClosedPipe or OutputError.
void write_out(std::string_view text);

}  // namespace tessera

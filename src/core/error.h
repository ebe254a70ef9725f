#pragma once
// How Tessera fails: it throws, it never prints, aborts or exits.
//
//   std::invalid_argument  the caller can fix it: a wrong flag, shape, token id or length
//   FileError              a model or file is bad: missing, truncated, hostile, unsupported
//   ResourceError          memory or disk is exhausted
//   DeviceError            a device does not answer any more
//   std::runtime_error     anything else (a device that refuses, the system)
//
// A text says what, the value, the limit and what to do: "linear: weight [1, 1, 640, 320] does not accept input [1, 1, 7, 512]".
#include <sstream>
#include <stdexcept>
#include <string>

namespace tessera {

class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ResourceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The parts of a message, streamed one after the other.
template <class... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

template <class Error = std::invalid_argument, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(message(parts...));
}

// Throws Error with the streamed parts unless `ok`. The parts are streamed on failure only.
template <class Error = std::invalid_argument, class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail<Error>(parts...);
}

}  // namespace tessera

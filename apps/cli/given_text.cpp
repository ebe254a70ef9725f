#include "cli/given_text.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/terminal.h"
#include "core/error.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr size_t kMostBytes = size_t{64} << 20;

// To the end of what is open, which may wait for whoever writes it.
std::string read_to_end(int file, std::string_view name) {
  std::string bytes;
  for (size_t size = 0;;) {
    bytes.resize(std::clamp(2 * size, size_t{1} << 16, kMostBytes + 1));
    const ssize_t got = ::read(file, bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) {
      SignalWatch::expect_none();
      continue;
    }
    check<FileError>(got >= 0, name, ": cannot be read: ", std::strerror(errno));
    size += static_cast<size_t>(got);
    check<FileError>(size <= kMostBytes, name, ": has more than ", kMostBytes, " bytes, which are read at most");
    if (got > 0) continue;
    bytes.resize(size);
    return bytes;
  }
}

std::string read_bytes(const std::string& path, std::string_view name) {
  if (path == "-" || path == "/dev/stdin") return read_to_end(STDIN_FILENO, name);  // the latter cannot be opened where it is a socket
  struct Descriptor {
    int number;
    ~Descriptor() {
      if (number >= 0) ::close(number);
    }
  };
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (file.number < 0 && errno == EINTR) SignalWatch::expect_none();
  check<FileError>(file.number >= 0, name, ": cannot be opened: ", std::strerror(errno));
  return read_to_end(file.number, name);
}

// The encoding that the first bytes are of: by its mark, or by every other byte of two ASCII characters being 0.
std::string_view wide_encoding(std::string_view bytes) {
  const auto zero = [&](size_t i) { return bytes[i] == '\0'; };
  const bool little = bytes.starts_with("\xFF\xFE"), big = bytes.starts_with("\xFE\xFF");
  if (bytes.size() >= 4 && ((little && zero(2) && zero(3)) || bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4)))) return "UTF-32";
  if (little || big) return "UTF-16";
  const bool halves = bytes.size() >= 4 && zero(0) == zero(2) && zero(1) == zero(3) && zero(0) != zero(1);
  return halves ? "UTF-16" : "";
}

}  // namespace

std::string read_given_text(const std::string& path) {
  const std::string name = path == "-" || path == "/dev/stdin" ? "standard input" : path;
  std::string text = read_bytes(path, name);
  expect_utf8(text, name);
  drop_byte_order_mark(text, name);
  return text;
}

void expect_utf8(std::string_view text, std::string_view name) {
  const std::string_view wide = wide_encoding(text);
  check(wide.empty(), name, ": is ", wide, "; convert it to UTF-8, as iconv -f ", wide, " -t UTF-8 does");
  const size_t invalid = text::find_invalid_utf8(text);
  check(invalid == std::string_view::npos, name, ": not valid UTF-8 at byte ", invalid, "; convert it to UTF-8");
}

void drop_byte_order_mark(std::string& text, std::string_view name) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (!text.starts_with(kMark)) return;
  text.erase(0, kMark.size());
  tell(message("note: ", name, ": its byte-order mark is left out"));
}

}  // namespace tessera

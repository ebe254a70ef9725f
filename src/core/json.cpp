#include "core/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <vector>

#include "core/error.h"

namespace tessera {
namespace {

// Watches the parser's events and refuses duplicate keys and deep nesting before the document is built.
class Guard {
 public:
  Guard(const std::string& source, int max_depth) : source_(source), max_depth_(max_depth) {}

  bool operator()(int depth, Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        check<FileError>(depth < max_depth_, source_, ": JSON is nested more than ", max_depth_, " levels deep");
        keys_.emplace_back();
        break;
      case Json::parse_event_t::array_start:
        check<FileError>(depth < max_depth_, source_, ": JSON is nested more than ", max_depth_, " levels deep");
        break;
      case Json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case Json::parse_event_t::key:
        check<FileError>(keys_.back().insert(parsed.get_ref<const std::string&>()).second, source_, ": JSON key ",
                         printable(parsed.get_ref<const std::string&>()), " stands twice in one object");
        break;
      default:
        break;
    }
    return true;
  }

 private:
  const std::string& source_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;
};

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

Json parse_json(std::string_view text, const std::string& source, const JsonLimits& limits) {
  check<FileError>(text.size() <= limits.max_bytes, source, ": JSON of ", text.size(), " bytes; at most ", limits.max_bytes, " are read");
  // The parser takes a NUL for the end of its input and skips a byte-order mark.
  const size_t nul = text.find('\0');
  check<FileError>(nul == std::string_view::npos, source, ": not valid JSON at byte ", nul + 1);
  check<FileError>(!text.starts_with("\xEF\xBB\xBF"), source, ": not valid JSON at byte 1: remove the byte-order mark");
  try {
    Guard guard(source, limits.max_depth);
    return Json::parse(text.begin(), text.end(), std::ref(guard));
  } catch (const Json::parse_error& error) {
    fail<FileError>(source, ": not valid JSON at byte ", error.byte);
  } catch (const Json::out_of_range&) {
    fail<FileError>(source, ": JSON holds a number that is out of range");
  }
}

std::string read_file(const std::string& path, size_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  check<FileError>(file.fd >= 0, path, ": cannot be opened: ", std::strerror(errno));
  struct stat status{};
  check<FileError>(::fstat(file.fd, &status) == 0 && S_ISREG(status.st_mode), path, ": is not a regular file");
  check<FileError>(static_cast<uint64_t>(status.st_size) <= max_bytes, path, ": has ", status.st_size, " bytes; at most ", max_bytes,
                   " are read");
  std::string bytes(static_cast<size_t>(status.st_size), '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(file.fd, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    check<FileError>(got > 0, path, ": cannot be read at byte ", done, ": ", got == 0 ? "the file was cut short" : std::strerror(errno));
    done += static_cast<size_t>(got);
  }
  return bytes;
}

std::ostream& operator<<(std::ostream& out, const Printable& printable) {
  constexpr size_t kMost = 100;
  out << Json(printable.text.substr(0, kMost)).dump(-1, ' ', true, Json::error_handler_t::replace);
  return printable.text.size() > kMost ? out << "..." : out;
}

Json read_json(const std::string& path, const JsonLimits& limits) { return parse_json(read_file(path, limits.max_bytes), path, limits); }

}  // namespace tessera

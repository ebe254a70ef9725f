#include "core/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"

namespace tessera {
namespace {

// Builds the document from the parser's events; refuses duplicate keys and deep nesting as soon as they appear.
class Builder final : public Json::json_sax_t {
 public:
  Builder(Json& root, const std::string& source, int max_depth) : root_(root), source_(source), max_depth_(max_depth) {}

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(Json::number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(Json::number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(Json::number_float_t value, const std::string&) override { return add(Json(value)); }
  bool string(std::string& value) override { return add(Json(std::move(value))); }
  bool binary(Json::binary_t&) override { return false; }  // no JSON text holds it
  bool start_object(size_t) override { return open(Json::value_t::object); }
  bool start_array(size_t) override { return open(Json::value_t::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    const auto [member, fresh] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    check<FileError>(fresh, source_, ": JSON key ", printable(member->first), " stands twice in one object");
    member_ = &member->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    constexpr int kNumberOutOfRange = 406;
    if (error.id == kNumberOutOfRange) fail<FileError>(source_, ": JSON number out of range at byte ", position);
    fail<FileError>(source_, ": not valid JSON at byte ", position);
  }

 private:
  bool add(Json value) {
    place() = std::move(value);
    return true;
  }

  bool open(Json::value_t type) {
    check<FileError>(open_.size() < static_cast<size_t>(max_depth_), source_, ": JSON is nested more than ", max_depth_, " levels deep");
    Json& container = place();
    container = Json(type);
    open_.push_back(&container);
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  // Where the next value goes.
  Json& place() {
    if (open_.empty()) return root_;
    if (open_.back()->is_object()) return *member_;
    return open_.back()->get_ref<Json::array_t&>().emplace_back();
  }

  Json& root_;
  const std::string& source_;
  int max_depth_;
  std::vector<Json*> open_;
  Json* member_ = nullptr;
};

// Empties a value from its leaves, without allocating. (nlohmann's destructor allocates for every container that isn't empty, and
// so ends the process when memory is exhausted.)
void dismantle(Json& json) noexcept {
  if (auto* const object = json.get_ptr<Json::object_t*>()) {
    for (auto& [name, value] : *object) dismantle(value);
    object->clear();
  } else if (auto* const array = json.get_ptr<Json::array_t*>()) {
    for (Json& value : *array) dismantle(value);
    array->clear();
  }
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

JsonDocument::~JsonDocument() { dismantle(root_); }

JsonDocument parse_json(std::string_view text, const std::string& source, const JsonLimits& limits) {
  check<FileError>(text.size() <= limits.max_bytes, source, ": JSON of ", text.size(), " bytes; at most ", limits.max_bytes, " are read");
  // The parser takes a NUL for the end of its input and skips a byte-order mark.
  const size_t nul = text.find('\0');
  check<FileError>(nul == std::string_view::npos, source, ": not valid JSON at byte ", nul + 1);
  check<FileError>(!text.starts_with("\xEF\xBB\xBF"), source, ": not valid JSON at byte 1: remove the byte-order mark");
  JsonDocument document;
  Builder builder(document.root_, source, limits.max_depth);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return document;
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

bool is_there(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 || errno != ENOENT;
}

JsonDocument read_json(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

}  // namespace tessera

#include "core/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>
#include <vector>

#include "core/error.h"

namespace tessera {
namespace {

// Where a value stands in its document.
struct Place {
  const Place* parent;
  std::string_view key;
  size_t index;  // of an element of an array, which has no key
};

std::ostream& operator<<(std::ostream& out, const Place& place) {
  if (place.parent == nullptr) return out;
  out << *place.parent;
  if (place.key.data() == nullptr) return out << '[' << place.index << ']';
  return out << (place.parent->parent == nullptr ? "" : ".") << printable(place.key);
}

// Refuses objects with duplicate keys. They are hashed with a seed drawn at random: no file can be made to collide.
class DistinctKeys {
 public:
  explicit DistinctKeys(const std::string& source) : source_(source) {}

  void expect(JsonValue value, const Place& place) {
    if (const auto array = json_as<JsonArray>(value)) {
      size_t index = 0;
      for (const JsonValue element : *array) expect(element, {&place, {}, index++});
    } else if (const auto object = json_as<JsonObject>(value)) {
      expect_in(*object, place);
      for (const auto field : *object) expect(field.value, {&place, field.key, 0});
    }
  }

 private:
  void expect_in(JsonObject object, const Place& place) {
    constexpr size_t kMostKeys = 0xFFFFFE;  // simdjson counts no further
    check<FileError>(object.size() <= kMostKeys, source_, ": a JSON object has more than ", kMostKeys, " keys");
    hashes_.assign(std::bit_ceil(2 * object.size()), 0);
    for (const auto field : object) {
      const uint64_t hash = XXH3_64bits_withSeed(field.key.data(), field.key.size(), seed_) | 1;
      size_t slot = hash >> 1 & (hashes_.size() - 1);
      while (hashes_[slot] != 0 && hashes_[slot] != hash) slot = (slot + 1) & (hashes_.size() - 1);
      if (std::exchange(hashes_[slot], hash) == 0) continue;
      for (const auto other : object)
        check<FileError>(other.key.data() == field.key.data() || other.key != field.key, source_, ": ", place,
                         place.parent == nullptr ? "" : ": ", "JSON key ", printable(field.key), " stands twice");
    }
  }

  const std::string& source_;
  uint64_t seed_ = std::random_device()();
  std::vector<uint64_t> hashes_;  // of one object's keys, 0 where there is none; a power of two, at least half of them free
};

// simdjson refuses an integer beyond 64 bits, and takes -0 for 0.
bool is_lost_as_integer(std::string_view number) {
  const char* const end = number.data() + number.size();
  int64_t negative = 0;
  uint64_t positive = 0;
  const auto error = number[0] == '-' ? std::from_chars(number.data(), end, negative).ec : std::from_chars(number.data(), end, positive).ec;
  return number.find_first_of(".eE") == std::string_view::npos && (number == "-0" || error == std::errc::result_out_of_range);
}

// Whether there is a -0, or a text that looks like one.
bool may_hold_minus_zero(std::string_view text) {
  constexpr std::string_view kBefore = "[,: \t\r\n", kFloat = ".eE";
  for (size_t at = text.find("-0"); at != std::string_view::npos; at = text.find("-0", at + 2)) {
    const bool begins = at == 0 || kBefore.find(text[at - 1]) != std::string_view::npos;
    if (begins && (at + 2 == text.size() || kFloat.find(text[at + 2]) == std::string_view::npos)) return true;
  }
  return false;
}

// The JSON with floats for the integers that would be lost.
std::string with_floats(std::string_view text) {
  std::string json;
  bool in_text = false;
  for (size_t at = 0, end = 0; at < text.size(); at = end) {
    const bool is_number = !in_text && (text[at] == '-' || (text[at] >= '0' && text[at] <= '9'));
    if (text[at] == '"') in_text = !in_text;
    end = is_number ? std::min(text.find_first_not_of("+-.0123456789eE", at), text.size()) : at + (in_text && text[at] == '\\' ? 2 : 1);
    json += text.substr(at, end - at);
    if (is_number && is_lost_as_integer(text.substr(at, end - at))) json += "e0";
  }
  return json;
}

simdjson::error_code parse(std::string_view text, size_t max_depth, simdjson::dom::document& document) {
  simdjson::dom::parser parser;
  // Its depth is one more than that of the deepest container that holds anything.
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 64), max_depth + 1)) return error;
  return parser.parse_into_document(document, text.data(), text.size()).error();
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

JsonDocument parse_json(std::string_view text, const std::string& source, const JsonLimits& limits) {
  check<FileError>(text.size() <= limits.max_bytes, source, ": JSON of ", text.size(), " bytes; at most ", limits.max_bytes, " are read");
  check<FileError>(!text.starts_with("\xEF\xBB\xBF"), source, ": not valid JSON: remove the byte-order mark");
  JsonDocument document;
  simdjson::error_code error = parse(text, limits.max_depth, *document.document_);
  if (error == simdjson::NUMBER_ERROR || (error == simdjson::SUCCESS && may_hold_minus_zero(text)))
    error = parse(with_floats(text), limits.max_depth, *document.document_);
  check<ResourceError>(error != simdjson::MEMALLOC, source, ": not enough memory to read ", text.size(), " bytes of JSON");
  check<FileError>(error != simdjson::DEPTH_ERROR, source, ": JSON is nested more than ", limits.max_depth, " levels deep");
  check<FileError>(error != simdjson::NUMBER_ERROR, source, ": not valid JSON: a number is malformed or out of range");
  check<FileError>(error == simdjson::SUCCESS, source, ": not valid JSON: ", simdjson::error_message(error));
  DistinctKeys(source).expect(document.root(), {});
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
  out << nlohmann::json(printable.text.substr(0, kMost)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
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

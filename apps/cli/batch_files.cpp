#include "cli/batch_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>

#include "cli/terminal.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr size_t kMostAnswerBytes = size_t{1} << 30;
constexpr std::string_view kBegin = R"({"id":"batch_req_)";  // of a line of ours

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

JsonObject object_of(const JsonDocument& document, const std::string& place) {
  const auto object = json_as<JsonObject>(document.root());
  check(object.has_value(), place, ": is no JSON object");
  return *object;
}

JsonDocument parse_line(std::string_view line, const std::string& place, size_t most) {
  try {
    return parse_json(line, place, {.max_bytes = most});
  } catch (const FileError& error) {
    fail(error.what());
  }
}

struct stat status_of(const OpenFile& file) {
  struct stat status{};
  check(::fstat(file.number(), &status) == 0, file.path(), ": cannot be looked at: ", std::strerror(errno));
  return status;
}

}  // namespace

OpenFile::OpenFile(std::string path, int flags)
    : path_(std::move(path)), number_(::open(path_.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666)) {
  check(number_ >= 0, path_, ": cannot be opened: ", std::strerror(errno));
  struct stat status{};
  if (::fstat(number_, &status) == 0 && S_ISREG(status.st_mode)) return;
  ::close(number_);
  fail(path_, ": is not a regular file");
}

OpenFile::~OpenFile() { ::close(number_); }

template <class Take>
uint64_t OpenFile::each_line(size_t most, std::string& rest, const Take& take) const {
  std::string chunk(size_t{1} << 20, '\0');
  uint64_t at = 0, begin = 0;
  rest.clear();
  for (;;) {
    SignalWatch::expect_none();
    const ssize_t got = ::pread(number_, chunk.data(), chunk.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    check(got >= 0, path_, ": cannot be read: ", std::strerror(errno));
    if (got == 0) return begin;
    at += static_cast<uint64_t>(got);
    for (std::string_view left(chunk.data(), static_cast<size_t>(got)); !left.empty();) {
      const size_t end = left.find('\n');
      rest += left.substr(0, end);
      check(rest.size() <= most, path_, ": a line has more than ", most, " bytes, which are read at most");
      if (end == std::string_view::npos) break;
      left.remove_prefix(end + 1);
      take(std::string_view(rest), begin);
      begin += rest.size() + 1;
      rest.clear();
    }
  }
}

std::string OpenFile::read(uint64_t offset, size_t bytes) const {
  std::string text(bytes, '\0');
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(number_, text.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    check(got > 0, path_, ": cannot be read: ", got == 0 ? "it was cut while it was in use" : std::strerror(errno));
    done += static_cast<size_t>(got);
  }
  return text;
}

BatchInput::BatchInput(const std::string& path) : file_(path, O_RDONLY) {
  int64_t number = 0;
  const auto take = [&](std::string_view line, uint64_t offset) {
    const std::string place = message(path, ": line ", ++number);
    if (is_blank(line)) return;
    const JsonDocument document = parse_line(line, place, kMostLineBytes);
    const auto id = json_as<std::string_view>(object_of(document, place).at_key("custom_id"));
    check(id && !id->empty(), place, ": has no custom_id that is a text");
    lines_.push_back({std::string(*id), digest(line), offset, line.size(), number});
  };
  std::string rest;
  const uint64_t end = file_.each_line(kMostLineBytes, rest, take);
  if (!rest.empty()) take(rest, end);
  check(!lines_.empty(), path, ": holds no requests");
  for (size_t i = 0; i < lines_.size(); ++i) {
    const auto [place, fresh] = index_.emplace(lines_[i].custom_id, i);
    check(fresh, path, ": lines ", lines_[place->second].number, " and ", lines_[i].number, " have the same custom_id, ",
          printable(lines_[i].custom_id), "; each needs its own");
  }
}

size_t BatchInput::find(const std::string& custom_id) const {
  const auto found = index_.find(custom_id);
  return found == index_.end() ? size() : found->second;
}

std::string BatchInput::line(size_t index) const {
  const Line& line = lines_[index];
  std::string text = file_.read(line.offset, line.bytes);
  check(digest(text) == line.digest, place(index), " was written to while it was in use");
  return text;
}

std::string BatchInput::place(size_t index) const { return message(file_.path(), ": line ", lines_[index].number); }

BatchOutput::BatchOutput(const std::string& path, const BatchInput& input) : file_(path, O_RDWR | O_CREAT), answered_(input.size()) {
  const struct stat own = status_of(file_), other = status_of(input.file());
  check(own.st_dev != other.st_dev || own.st_ino != other.st_ino, path, ": -o is the file that -i reads; name another");
  check(::flock(file_.number(), LOCK_EX | LOCK_NB) == 0, path, ": another command writes it");
  int64_t number = 0;
  const auto take = [&](std::string_view line, uint64_t) {
    const std::string place = message(path, ": line ", ++number), advice = "; name another file, or remove this one";
    const JsonDocument document = parse_line(line, place, kMostAnswerBytes);
    const JsonObject object = object_of(document, place);
    const auto id = json_as<std::string_view>(object.at_key("id")), custom_id = json_as<std::string_view>(object.at_key("custom_id"));
    const auto status = json_as<int64_t>(object.at_key("response").at_key("status_code"));
    check(id && id->starts_with("batch_req_") && custom_id && status, place, ": is no answer of a batch", advice);
    const size_t index = input.find(std::string(*custom_id));
    check(index < input.size(), place, ": answers ", printable(*custom_id), ", which ", input.file().path(), " does not ask", advice);
    check(!answered_[index], place, ": answers ", printable(*custom_id), " a second time", advice);
    answered_[index] = true;
    ++found_;
    found_failures_ += status != 200;
  };
  std::string rest;
  end_ = file_.each_line(kMostAnswerBytes, rest, take);
  if (!rest.empty()) {
    const size_t same = std::min(rest.size(), kBegin.size());
    check(rest.substr(0, same) == kBegin.substr(0, same), path,
          ": ends with what is no answer of a batch; name another file, or remove this one");
    check<ResourceError>(::ftruncate(file_.number(), static_cast<off_t>(end_)) == 0, path, ": cannot be written: ", std::strerror(errno));
    tell(message("note: ", path, ": its last line was not finished and is answered anew"));
  }
  // The file's name is on the disk too.
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  ::fsync(directory);
  ::close(directory);
}

void BatchOutput::write(std::string_view lines) {
  const auto fail_with = [&](int reason) {
    static_cast<void>(!::ftruncate(file_.number(), static_cast<off_t>(end_)));
    fail<ResourceError>(file_.path(), ": cannot be written: ", std::strerror(reason));
  };
  for (size_t done = 0; done < lines.size();) {
    const ssize_t written = ::pwrite(file_.number(), lines.data() + done, lines.size() - done, static_cast<off_t>(end_ + done));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with(errno);
    done += static_cast<size_t>(written);
  }
  if (::fdatasync(file_.number()) != 0) fail_with(errno);
  end_ += lines.size();
}

}  // namespace tessera

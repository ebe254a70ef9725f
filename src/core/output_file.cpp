#include "core/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace tessera {

namespace {

// It is written to, and stays what it is.
bool is_device(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISCHR(status.st_mode);
}

}  // namespace

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), temporary_(is_device(path_) ? "" : message(path_, ".", ::getpid(), ".tmp")) {
  const int fd = temporary_.empty() ? ::open(path_.c_str(), O_WRONLY | O_CLOEXEC)
                                    : ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  check<FileError>(fd >= 0, path_, ": cannot be written: ", std::strerror(errno));
  file_ = ::fdopen(fd, "wb");
  if (file_) return;
  ::close(fd);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  fail<ResourceError>(path_, ": cannot be written: there is no memory for it");
}

OutputFile::~OutputFile() {
  if (!file_) return;
  std::fclose(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  const bool written = std::fwrite(data, 1, bytes, file_) == bytes;
  check<ResourceError>(written, path_, ": cannot be written: ", std::strerror(errno));
}

void OutputFile::finish() {
  bool done = std::fflush(file_) == 0 && (temporary_.empty() || ::fsync(::fileno(file_)) == 0);
  int reason = errno;
  done = std::fclose(std::exchange(file_, nullptr)) == 0 && done;
  if (done && temporary_.empty()) return;
  if (done && ::rename(temporary_.c_str(), path_.c_str()) == 0) return;
  if (done) reason = errno;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  fail<ResourceError>(path_, ": cannot be written: ", std::strerror(reason));
}

}  // namespace tessera

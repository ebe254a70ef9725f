#include "core/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace tessera {

OutputFile::OutputFile(std::string path) : path_(std::move(path)), temporary_(message(path_, ".", ::getpid(), ".tmp")) {
  const int fd = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  check<FileError>(fd >= 0, path_, ": cannot be written: ", std::strerror(errno));
  file_ = ::fdopen(fd, "wb");
  if (file_) return;
  ::close(fd);
  ::unlink(temporary_.c_str());
  fail<ResourceError>(path_, ": cannot be written: there is no memory for it");
}

OutputFile::~OutputFile() {
  if (!file_) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  const bool written = std::fwrite(data, 1, bytes, file_) == bytes;
  check<ResourceError>(written, path_, ": cannot be written: ", std::strerror(errno));
}

void OutputFile::finish() {
  bool done = std::fflush(file_) == 0 && ::fsync(::fileno(file_)) == 0;
  int reason = errno;
  done = std::fclose(std::exchange(file_, nullptr)) == 0 && done;
  if (done && ::rename(temporary_.c_str(), path_.c_str()) == 0) return;
  if (done) reason = errno;
  ::unlink(temporary_.c_str());
  fail<ResourceError>(path_, ": cannot be written: ", std::strerror(reason));
}

}  // namespace tessera

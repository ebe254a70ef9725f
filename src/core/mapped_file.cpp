#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

int open_for_reading(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  check<ResourceError>(fd >= 0 || (errno != EMFILE && errno != ENFILE), path, ": cannot be opened: ", std::strerror(errno));
  check<FileError>(fd >= 0, path, ": cannot be opened: ", std::strerror(errno));
  return fd;
}

bool equal(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)), fd_(open_for_reading(path_)) {
  try {
    check<FileError>(::fstat(fd_, &status_) == 0 && S_ISREG(status_.st_mode), path_, ": is not a regular file");
    check<FileError>(status_.st_size > 0, path_, ": is empty");
    size_ = static_cast<size_t>(status_.st_size);
    void* const mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
    check<ResourceError>(mapping != MAP_FAILED || errno != ENOMEM, path_, ": no address space for its ", size_, " bytes");
    check<FileError>(mapping != MAP_FAILED, path_, ": cannot be mapped: ", std::strerror(errno));
    begin_ = static_cast<std::byte*>(mapping);
    guard_.emplace(begin_, size_);
  } catch (...) {
    if (begin_ != nullptr) ::munmap(begin_, size_);
    ::close(fd_);
    throw;
  }
}

MappedFile::~MappedFile() {
  guard_.reset();
  ::munmap(begin_, size_);
  ::close(fd_);
}

void MappedFile::expect_unchanged() const {
  check<FileError>(!guard_->faulted(), path_, ": was cut short or could not be read from its disk while it was in use");
  struct stat status{};
  const bool told = ::fstat(fd_, &status) == 0;
  check<FileError>(told, path_, ": cannot be read any more: ", std::strerror(errno));
  check<FileError>(static_cast<size_t>(status.st_size) == size_, path_, ": had ", size_, " bytes when it was opened and now has ",
                   status.st_size, ": load it again when nothing writes to it");
  check<FileError>(equal(status.st_mtim, status_.st_mtim), path_,
                   ": was written to while it was in use: load it again when nothing writes to it");
}

// (The change time too: it is moved by a rewriting that sets the modification time back.)
std::string MappedFile::identity() const {
  return message(status_.st_ino, " ", status_.st_size, " ", status_.st_mtim.tv_sec, ".", status_.st_mtim.tv_nsec, " ",
                 status_.st_ctim.tv_sec, ".", status_.st_ctim.tv_nsec);
}

void MappedFile::prefer_huge_pages() const { ::madvise(begin_, size_, MADV_HUGEPAGE); }

void MappedFile::release(std::span<const std::byte> part) const {
  if (part.empty()) return;
  // Rounded outwards: a page that another tensor shares is simply read again.
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = reinterpret_cast<uintptr_t>(part.data()) / page * page;
  const uintptr_t last = reinterpret_cast<uintptr_t>(part.data() + part.size());
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace tessera

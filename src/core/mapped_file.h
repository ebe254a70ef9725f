#pragma once
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/bus_guard.h"

namespace tessera {

// A regular file mapped for reading, as it was when it was opened.
//
// The guarantee: whatever another process does to the file meanwhile, reading bytes() never crashes, and what was read is the opened
// file's content if expect_unchanged() returns afterwards. A file cut short, rewritten in place or unreadable makes it throw FileError
// (told by the size, the modification time and the reads themselves). One replaced by rename or deleted does no harm: the opened one
// stays. So: validate or copy from bytes() first, then call expect_unchanged(), and only then trust the result.
class MappedFile {
 public:
  // Throws FileError when it is absent, unreadable, empty or not a regular file (a FIFO or device doesn't block), ResourceError when
  // there are no file descriptors or address space left.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {begin_, size_}; }

  // Throws FileError if the file isn't any more what was opened.
  void expect_unchanged() const;

  // Tells its inode and its content of this moment apart from others, as far as the file system does.
  std::string identity() const;

  // From now on, what isn't in memory yet comes from the disk in huge pages, where the file system has them: for a file that is read as a
  // whole again and again. A hint.
  void prefer_huge_pages() const;

  // Gives the pages of this part of bytes() back to the system; they are read again if touched. Any thread may be reading.
  void release(std::span<const std::byte> part) const;

 private:
  std::string path_;
  int fd_ = -1;
  std::byte* begin_ = nullptr;
  size_t size_ = 0;
  struct stat status_{};
  std::optional<BusGuard> guard_;
};

}  // namespace tessera

#pragma once
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

namespace tessera {

// A file that is there whole or not at all: written beside its place under a temporary name, which finish() renames. A device
// at that place (/dev/null) is written to as it is.
class OutputFile {
 public:
  // Throws FileError when the place cannot be written.
  explicit OutputFile(std::string path);
  // Without finish(), nothing is left behind.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Both throw ResourceError when the disk is full or fails.
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void finish();

 private:
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;
};

}  // namespace tessera

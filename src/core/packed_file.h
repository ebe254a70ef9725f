#pragma once
// Files of our own that spare the next run work: what was made of a checkpoint's file, kept for as long as that file stays what it was.
// Losing one costs time and nothing else.
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/output_file.h"

namespace tessera {

// ${TESSERA_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tessera}/packed, which need not be there; nullopt where no environment variable leads to it,
// or TESSERA_PACKED_CACHE=0 asks for nothing to be kept.
std::optional<std::filesystem::path> packed_folder();

// Named pieces of bytes and the identity of what they were made of, whoever made them. The file is
//   the pieces, each from a multiple of 4096 on; a directory, JSON: {"identity": text, "pieces": {"name": [begin, size], ...}};
//   the directory's size, its checksum, the format's version and a magic number, 8 bytes each
class PackedFileWriter {
 public:
  // Makes the folder if need be, and clears away what ended writers of the same file left. Throws as OutputFile does.
  PackedFileWriter(const std::filesystem::path& path, std::string identity);
  // Each name once. Both throw ResourceError when the disk is full or fails.
  void add(const std::string& name, std::span<const std::byte> bytes);
  void finish();

 private:
  void write(std::span<const std::byte> bytes);

  OutputFile file_;
  std::vector<std::byte> chunk_;  // begun and not written
  std::string identity_;
  std::map<std::string, std::pair<uint64_t, uint64_t>> places_;
  uint64_t size_ = 0;
};

class PackedFile {
 public:
  // `file` holds the whole file, and must outlive this. nullopt if it is of another identity or version, cut, or has a damaged directory.
  // The pieces' own bytes are not looked at.
  static std::optional<PackedFile> read(std::span<const std::byte> file, std::string_view identity);

  std::optional<std::span<const std::byte>> find(const std::string& name) const;  // nullopt: there is none
  const std::map<std::string, std::span<const std::byte>>& pieces() const { return pieces_; }

 private:
  std::map<std::string, std::span<const std::byte>> pieces_;
};

}  // namespace tessera

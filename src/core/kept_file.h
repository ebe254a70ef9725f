#pragma once
// Files of our own. Most spare the next run work: what was made of a checkpoint's file, kept for as long as that file stays what it was.
// Losing one of those costs time and nothing else.
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/output_file.h"

namespace tessera {

// ${TESSERA_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tessera}/packed, which need not be there; nullopt where no environment variable leads to it,
// or TESSERA_PACKED_CACHE=0 asks for nothing to be kept.
std::optional<std::filesystem::path> kept_folder();

// The file in `folder` for what is made of the file or directory at `source` for `purpose`: the same however the path to it is spelled.
std::filesystem::path kept_path(const std::filesystem::path& folder, const std::filesystem::path& source, std::string_view purpose,
                                std::string_view extension);

// Whether an action that only spares the next run work went well; a file or disk that fails it does no harm.
template <class Action>
bool succeeds(const Action& action) {
  try {
    action();
    return true;
  } catch (const FileError&) {
  } catch (const ResourceError&) {
  }
  return false;
}

// Named pieces of bytes and the identity of what they were made of, whoever made them. The file is
//   the pieces, each from a multiple of 4096 on; a directory, JSON: {"identity": text, "pieces": {"name": [begin, size, digest], ...}};
//   the directory's size, its checksum, the format's version and a magic number, 8 bytes each
class KeptFileWriter {
 public:
  // Makes the folder if need be, and clears away what ended writers of the same file left. Throws as OutputFile does, and ResourceError
  // if the disk would have less than a GiB left after `bytes`, about as many as will come.
  KeptFileWriter(const std::filesystem::path& path, std::string identity, uint64_t bytes);
  // Of a place that a person chose: nothing is made or cleared away beside it, and the disk may become full. Throws as OutputFile does.
  KeptFileWriter(const std::filesystem::path& path, std::string identity);
  // Each name once. A checked piece has a digest, and is not found when its bytes are damaged; others are used in place, unread. Both
  // throw ResourceError when the disk is full or fails.
  enum class Piece { checked, unchecked };
  void add(const std::string& name, std::span<const std::byte> bytes, Piece kind);
  void finish();

 private:
  void write(std::span<const std::byte> bytes);

  OutputFile file_;
  std::vector<std::byte> chunk_;  // begun and not written
  std::string identity_;
  struct Place {
    uint64_t begin, size;
    std::string digest;  // "": unchecked
  };
  std::map<std::string, Place> places_;
  uint64_t size_ = 0;
};

class KeptFile {
 public:
  // `file` holds the whole file, and must outlive this. nullopt if it is of another identity or version, cut, or has a damaged directory.
  static std::optional<KeptFile> read(std::span<const std::byte> file, std::string_view identity);

  std::optional<std::span<const std::byte>> find(const std::string& name) const;  // nullopt: there is none, or it is damaged

 private:
  struct Piece {
    std::span<const std::byte> bytes;
    std::string digest;
  };
  static std::optional<Piece> piece_at(std::span<const std::byte> file, JsonValue place);

  std::map<std::string, Piece> pieces_;
};

}  // namespace tessera

#include "core/kept_file.h"

#include <dirent.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/digest.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kAlignment = 4096, kVersion = 1, kMagic = 0x44454B4341505354;
constexpr uint64_t kLeftFree = uint64_t{1} << 30;
constexpr size_t kChunk = size_t{4} << 20;
constexpr size_t kMostDirectoryBytes = size_t{16} << 20;

struct Trailer {
  uint64_t directory_bytes, checksum, version, magic;
};
static_assert(sizeof(Trailer) == 32);

uint64_t checksum_of(std::string_view directory) { return std::stoull(digest(directory).substr(0, 16), nullptr, 16); }

// (Not std::filesystem's iterator: it ends the process when memory is exhausted.)
void remove_left_overs(const fs::path& path) {
  const std::string begin = path.filename().string() + ".";
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.parent_path().c_str()), ::closedir);
  while (const dirent* const entry = folder ? ::readdir(folder.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(begin) && name.ends_with(".tmp")) ::unlink((path.parent_path() / name).c_str());
  }
}

const fs::path& prepared(const fs::path& path) {
  std::error_code ignored;  // opening the file tells
  fs::create_directories(path.parent_path(), ignored);
  remove_left_overs(path);
  return path;
}

}  // namespace

std::optional<fs::path> kept_folder() {
  const auto set = [](const char* name) -> std::optional<std::string> {
    const char* const value = std::getenv(name);
    return value && *value ? std::optional<std::string>(value) : std::nullopt;
  };
  if (set("TESSERA_PACKED_CACHE") == "0") return std::nullopt;
  if (const auto folder = set("TESSERA_CACHE")) return fs::path(*folder) / "packed";
  if (const auto folder = set("XDG_CACHE_HOME")) return fs::path(*folder) / "tessera" / "packed";
  if (const auto home = set("HOME")) return fs::path(*home) / ".cache" / "tessera" / "packed";
  return std::nullopt;
}

fs::path kept_path(const fs::path& folder, const fs::path& source, std::string_view purpose, std::string_view extension) {
  std::error_code error;
  fs::path place = fs::canonical(source, error);
  if (error) place = fs::absolute(source);
  return folder / (digest(place.string() + std::string(purpose)) + std::string(extension));
}

KeptFileWriter::KeptFileWriter(const fs::path& path, std::string identity) : file_(path.string()), identity_(std::move(identity)) {
  chunk_.reserve(kChunk);
}

KeptFileWriter::KeptFileWriter(const fs::path& path, std::string identity, uint64_t bytes)
    : KeptFileWriter(prepared(path), std::move(identity)) {
  struct statvfs disk{};
  const bool known = ::statvfs(path.parent_path().c_str(), &disk) == 0;
  check<ResourceError>(known && disk.f_bavail * disk.f_frsize >= bytes + kLeftFree, path.string(), ": the disk has too little room for ",
                       bytes, " bytes");
}

// In whole chunks: the system then keeps the file in memory in huge pages, and a mapping of it is read as fast as memory of our own.
void KeptFileWriter::write(std::span<const std::byte> bytes) {
  size_ += bytes.size();
  while (!bytes.empty()) {
    const size_t whole = chunk_.empty() ? bytes.size() / kChunk * kChunk : 0;
    const auto piece = bytes.first(whole > 0 ? whole : std::min(kChunk - chunk_.size(), bytes.size()));
    bytes = bytes.subspan(piece.size());
    if (whole > 0) {
      file_.write(piece.data(), piece.size());
      continue;
    }
    chunk_.insert(chunk_.end(), piece.begin(), piece.end());
    if (chunk_.size() < kChunk) continue;
    file_.write(chunk_.data(), chunk_.size());
    chunk_.clear();
  }
}

void KeptFileWriter::add(const std::string& name, std::span<const std::byte> bytes, Piece kind) {
  const bool added = places_.try_emplace(name, size_, bytes.size(), kind == Piece::checked ? digest(bytes) : "").second;
  check(added, "packed file: ", printable(name), " is added twice");
  write(bytes);
  write(std::vector<std::byte>((kAlignment - size_ % kAlignment) % kAlignment));
}

void KeptFileWriter::finish() {
  nlohmann::json pieces = nlohmann::json::object();
  for (const auto& [name, place] : places_) pieces[name] = {place.begin, place.size, place.digest};
  const std::string directory = nlohmann::json{{"identity", identity_}, {"pieces", pieces}}.dump();
  const Trailer trailer{directory.size(), checksum_of(directory), kVersion, kMagic};
  write(std::as_bytes(std::span(directory)));
  write(std::as_bytes(std::span(&trailer, 1)));
  file_.write(chunk_.data(), chunk_.size());
  file_.finish();
}

// The piece at `place` of a file that ends where its directory begins.
std::optional<KeptFile::Piece> KeptFile::piece_at(std::span<const std::byte> file, JsonValue place) {
  const auto parts = json_as<JsonArray>(place);
  if (!parts || parts->size() != 3) return std::nullopt;
  const auto begin = json_as<uint64_t>(parts->at(0)), size = json_as<uint64_t>(parts->at(1));
  const auto digest = json_as<std::string_view>(parts->at(2));
  if (!begin || !size || !digest || *begin % kAlignment != 0 || *begin > file.size() || *size > file.size() - *begin) return std::nullopt;
  return Piece{file.subspan(*begin, *size), std::string(*digest)};
}

std::optional<KeptFile> KeptFile::read(std::span<const std::byte> file, std::string_view identity) {
  Trailer trailer{};
  if (file.size() < sizeof trailer) return std::nullopt;
  const auto before_trailer = file.first(file.size() - sizeof trailer);
  std::memcpy(&trailer, file.data() + before_trailer.size(), sizeof trailer);
  if (trailer.magic != kMagic || trailer.version != kVersion) return std::nullopt;
  if (trailer.directory_bytes > std::min(before_trailer.size(), kMostDirectoryBytes)) return std::nullopt;
  const auto bytes = before_trailer.last(trailer.directory_bytes);
  const std::string_view directory(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (checksum_of(directory) != trailer.checksum) return std::nullopt;
  try {
    const JsonDocument document = parse_json(directory, "packed file");
    const auto pieces = json_as<JsonObject>(document.root()["pieces"]);
    if (json_as<std::string_view>(document.root()["identity"]) != identity || !pieces) return std::nullopt;
    KeptFile packed;
    for (const auto [name, place] : *pieces) {
      auto piece = piece_at(before_trailer.first(before_trailer.size() - directory.size()), place);
      if (!piece) return std::nullopt;
      packed.pieces_.emplace(name, std::move(*piece));
    }
    return packed;
  } catch (const FileError&) {  // no JSON
    return std::nullopt;
  }
}

std::optional<std::span<const std::byte>> KeptFile::find(const std::string& name) const {
  const auto found = pieces_.find(name);
  if (found == pieces_.end()) return std::nullopt;
  const Piece& piece = found->second;
  return piece.digest.empty() || digest(piece.bytes) == piece.digest ? std::optional(piece.bytes) : std::nullopt;
}

}  // namespace tessera

#include "checkpoint/safetensors_source.h"

#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/foreign_files.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shard_index.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

std::optional<StoredType> stored_type(std::string_view dtype) {
  if (dtype == "F32") return StoredType::float32;
  if (dtype == "F16") return StoredType::float16;
  if (dtype == "BF16") return StoredType::bfloat16;
  return std::nullopt;
}

}  // namespace

struct SafetensorsSource::Found {
  SafetensorsTensor tensor;
  size_t file;
};

SafetensorsSource::SafetensorsSource(const fs::path& directory) {
  if (is_there(directory / kSingleFile)) {
    set_tensors(open_file((directory / kSingleFile).string()));
  } else if (is_there(directory / kIndexFile)) {
    set_tensors(open_shards(directory));
  } else {
    refuse_without_weights(directory);
  }
  expect_plain_weights(tensors_, directory);
  for (std::string& note : notes_on_ignored_files(directory)) notes_.push_back(std::move(note));
}

std::vector<SafetensorsSource::Found> SafetensorsSource::open_file(const std::string& path) {
  files_.push_back(std::make_unique<MappedFile>(path));
  const MappedFile& file = *files_.back();
  constexpr size_t kPointer = 64;
  const std::span<const std::byte> first = file.bytes().first(std::min(kPointer, file.bytes().size()));
  expect_no_pointer({reinterpret_cast<const char*>(first.data()), first.size()}, path);
  std::vector<Found> found;
  uint64_t header_bytes = file.bytes().size();
  for (SafetensorsTensor& tensor : parse_safetensors(file.bytes(), path)) {
    header_bytes = std::min(header_bytes, tensor.begin);
    found.push_back({std::move(tensor), files_.size() - 1});
  }
  identity_ += message(file.identity(), ' ', digest(file.bytes().first(header_bytes)), ' ');
  file.expect_unchanged();
  return found;
}

std::vector<SafetensorsSource::Found> SafetensorsSource::open_shards(const fs::path& directory) {
  const std::string index_path = (directory / kIndexFile).string();
  const std::string text = read_file(index_path, kMostIndexBytes);
  expect_no_pointer(text, index_path);
  const ShardIndex index = parse_shard_index(text, index_path);
  std::vector<Found> all;
  for (const std::string& shard : index.shards) {
    check<FileError>(is_there(directory / shard), index_path, ": weight_map names ", printable(shard),
                     ", which is not there: is the download complete?");
    std::vector<Found> found = open_file((directory / shard).string());
    all.insert(all.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
  }
  std::sort(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.tensor.name < b.tensor.name; });
  const auto twice =
      std::adjacent_find(all.begin(), all.end(), [](const Found& a, const Found& b) { return a.tensor.name == b.tensor.name; });
  if (twice != all.end()) {
    fail<FileError>(files_[twice->file]->path(), ": tensor ", printable(twice->tensor.name), " is also in ",
                    printable(index.shards[std::next(twice)->file]));
  }
  auto at = all.begin();
  for (const ShardIndex::Entry& entry : index.entries) {
    at =
        std::lower_bound(at, all.end(), entry.tensor, [](const Found& found, const std::string& name) { return found.tensor.name < name; });
    if (at != all.end() && at->tensor.name == entry.tensor && at->file == entry.shard) continue;
    const bool elsewhere = at != all.end() && at->tensor.name == entry.tensor;
    fail<FileError>(index_path, ": weight_map says that tensor ", printable(entry.tensor), " is in ", printable(index.shards[entry.shard]),
                    ", but it is ", elsewhere ? message("in ", printable(index.shards[at->file])) : "not there");
  }
  if (all.size() > index.entries.size())
    notes_.push_back(message(index_path, ": ", all.size() - index.entries.size(), " tensors of the shards are not listed in weight_map"));
  for (const std::string& name : names_in(directory)) {
    if (name.ends_with(".safetensors") && !std::binary_search(index.shards.begin(), index.shards.end(), name))
      notes_.push_back(message(index_path, ": does not name ", printable(name), ", which was ignored"));
  }
  uint64_t bytes = 0;
  for (const Found& found : all) bytes += found.tensor.end - found.tensor.begin;
  if (index.total_size && *index.total_size != bytes)
    notes_.push_back(message(index_path, ": total_size is ", *index.total_size, " but the shards hold ", bytes, " bytes"));
  return all;
}

void SafetensorsSource::set_tensors(std::vector<Found> found) {
  std::vector<std::pair<std::string, size_t>> names;
  for (size_t i = 0; i < found.size(); ++i) {
    if (auto name = canonical_name(found[i].tensor.name)) names.emplace_back(std::move(*name), i);
  }
  std::sort(names.begin(), names.end());
  tensors_.reserve(names.size());
  places_.reserve(names.size());
  for (auto& [name, i] : names) {
    SafetensorsTensor& tensor = found[i].tensor;
    check<FileError>(tensors_.empty() || tensors_.back().name != name, files_[found[i].file]->path(), ": tensor ", printable(tensor.name),
                     ": another tensor is also known as ", printable(name));
    tensors_.push_back(
        {std::move(name), stored_type(tensor.dtype), std::string(tensor.dtype), std::move(tensor.shape), tensor.end - tensor.begin});
    places_.push_back({found[i].file, tensor.begin, tensor.end});
  }
}

const SafetensorsSource::Place& SafetensorsSource::place(std::string_view name) const {
  const StoredTensor* const tensor = find(name);
  check(tensor != nullptr, "the checkpoint has no tensor ", printable(name));
  return places_[static_cast<size_t>(tensor - tensors_.data())];
}

std::span<const std::byte> SafetensorsSource::lend(std::string_view name) {
  const Place& at = place(name);
  const MappedFile& file = *files_[at.file];
  file.expect_unchanged();
  const std::span<const std::byte> in_file = file.bytes().subspan(at.begin, at.end - at.begin);
  const std::optional<StoredType> type = find(name)->type;
  if (!type || at.begin % static_cast<uint64_t>(bytes_of(*type)) == 0) return in_file;
  return copies_.insert_or_assign(std::string(name), std::vector<std::byte>(in_file.begin(), in_file.end())).first->second;
}

void SafetensorsSource::drop(std::span<const std::byte> bytes) {
  for (const auto& file : files_)
    if (const std::span<const std::byte> all = file->bytes(); bytes.data() >= all.data() && bytes.data() < all.data() + all.size())
      file->release(bytes);
}

void SafetensorsSource::release(std::string_view name) {
  const Place& at = place(name);
  const MappedFile& file = *files_[at.file];
  if (const auto copy = copies_.find(name); copy != copies_.end()) copies_.erase(copy);
  file.release(file.bytes().subspan(at.begin, at.end - at.begin));
  file.expect_unchanged();
}

}  // namespace tessera

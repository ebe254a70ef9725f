#include "checkpoint/shard_index.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

bool is_plain_file_name(std::string_view name) {
  const bool printable_only = std::none_of(
      name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '/' || c == '\\'; });
  return printable_only && name.size() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.');
}

}  // namespace

ShardIndex parse_shard_index(std::string_view text, const std::string& source) {
  const JsonDocument document = parse_json(text, source, {.max_bytes = kMostIndexBytes, .max_depth = 8});
  const auto weight_map = json_as<JsonObject>(document.root()["weight_map"]);
  check<FileError>(weight_map.has_value(), source, ": weight_map is not an object");
  check<FileError>(weight_map->size() > 0, source, ": weight_map is empty");

  std::map<std::string_view, size_t> shards;
  std::vector<std::pair<std::string_view, std::string_view>> entries;
  for (const auto [tensor, shard] : *weight_map) {
    const auto name = json_as<std::string_view>(shard);
    check<FileError>(name.has_value(), source, ": weight_map: ", printable(tensor), " is not a file name");
    check<FileError>(is_plain_file_name(*name), source, ": weight_map: ", printable(tensor), " is in ", printable(*name),
                     ", which is not the name of a .safetensors file in this directory");
    shards.emplace(*name, 0);
    entries.emplace_back(tensor, *name);
  }
  ShardIndex index;
  for (auto& [name, number] : shards) {
    number = index.shards.size();
    index.shards.emplace_back(name);
  }
  std::sort(entries.begin(), entries.end());
  index.entries.reserve(entries.size());
  for (const auto& [tensor, shard] : entries) index.entries.push_back({std::string(tensor), shards.at(shard)});
  index.total_size = json_as<uint64_t>(document.root()["metadata"]["total_size"]);
  return index;
}

}  // namespace tessera

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
  const Json& json = document.root();
  check<FileError>(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(), source,
                   ": weight_map is not an object");
  const Json& weight_map = json["weight_map"];
  check<FileError>(!weight_map.empty(), source, ": weight_map is empty");

  ShardIndex index;
  std::map<std::string_view, size_t> shards;
  for (const auto& [tensor, shard] : weight_map.items()) {
    check<FileError>(shard.is_string(), source, ": weight_map: ", printable(tensor), " is not a file name");
    const std::string& name = shard.get_ref<const std::string&>();
    check<FileError>(is_plain_file_name(name), source, ": weight_map: ", printable(tensor), " is in ", printable(name),
                     ", which is not the name of a .safetensors file in this directory");
    shards.emplace(name, 0);
  }
  for (auto& [name, number] : shards) {
    number = index.shards.size();
    index.shards.emplace_back(name);
  }
  index.entries.reserve(weight_map.size());
  for (const auto& [tensor, shard] : weight_map.items()) index.entries.push_back({tensor, shards.at(shard.get_ref<const std::string&>())});

  const auto metadata = json.find("metadata");
  if (metadata != json.end() && metadata->is_object()) {
    const auto total_size = metadata->find("total_size");
    if (total_size != metadata->end() && total_size->is_number_unsigned()) index.total_size = total_size->get<uint64_t>();
  }
  return index;
}

}  // namespace tessera

// The input is taken for a file; and its first line for a directory with the right checksum, behind pieces that the rest fills.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/digest.h"
#include "core/kept_file.h"
#include "text/bpe.h"

namespace {

void try_file(const std::string& bytes) {
  const auto file = tessera::KeptFile::read(std::as_bytes(std::span(bytes)), "i");
  if (!file) return;
  const auto vocabulary = tessera::text::Vocabulary::restore(*file);
  if (!vocabulary) return;
  size_t found = 0;
  for (tessera::TokenId id = 0; id < vocabulary->end_id(); ++id)
    if (vocabulary->has(id)) found += vocabulary->find(vocabulary->token(id)) != tessera::text::kNoToken;
  const auto merges = tessera::text::MergeTable::restore(*file, *vocabulary);
  if (!merges) return;
  for (const tessera::TokenId id : {0, 1, 2})
    if (const auto* merge = merges->find(id, id); merge && !vocabulary->has(merge->joined)) std::abort();
  if (found > vocabulary->size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  try_file(input);
  const size_t line = std::min(input.find('\n'), input.size());
  const std::string directory = input.substr(0, line);
  std::string file = input.substr(std::min(line + 1, input.size()));
  file.resize(8192);
  const uint64_t trailer[] = {directory.size(), std::stoull(tessera::digest(directory).substr(0, 16), nullptr, 16), 1, 0x44454B4341505354};
  try_file(file + directory + std::string(reinterpret_cast<const char*>(trailer), sizeof trailer));
  return 0;
}

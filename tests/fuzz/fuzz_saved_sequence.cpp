// The input's first line is taken for what a file says of a sequence, the rest for its pages; it goes into an empty sequence.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "cpu/cpu_device.h"
#include "generate/saved_sequence.h"

namespace {

using tessera::KeptFileWriter;

const tessera::PagesIdentity kIdentity{{"weights", "bfloat16"}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static tessera::cpu::CpuDevice device({.threads = 1, .isa = tessera::cpu::Isa::plain});
  static tessera::Cache cache(device, {{{1, 2, 4}, {1, 2, std::nullopt}}}, {.max_tokens = 200});
  const std::string input(reinterpret_cast<const char*>(data), size), path = "/dev/shm/fuzz_saved_sequence." + std::to_string(::getpid());
  const size_t line = std::min(input.find('\n'), input.size());
  std::string pages = input.substr(std::min(line + 1, input.size()));
  pages.resize(256);  // of one of these caches' pages
  {
    KeptFileWriter file(path, "tessera sequence 1");
    file.add("about", {}, KeptFileWriter::Piece::checked);
    file.add("sequence", std::as_bytes(std::span(input).first(line)), KeptFileWriter::Piece::checked);
    for (const char* name : {"page 0 0", "page 0 1", "page 1 0", "page 1 1"})
      file.add(name, std::as_bytes(std::span(pages)), KeptFileWriter::Piece::checked);
    file.finish();
  }
  try {
    const tessera::SavedSequence saved(path);
    const auto sequence = cache.create();
    const bool restored = saved.restore(device, cache, *sequence, kIdentity).empty();
    if (restored ? sequence->tokens != saved.tokens() : sequence->length() > 0 || !sequence->tokens.empty()) std::abort();
  } catch (const tessera::FileError&) {
  }
  ::unlink(path.c_str());
  for (size_t group = 0; group < cache.groups(); ++group)
    if (cache.free_pages(group) != cache.total_pages(group)) std::abort();
  return 0;
}

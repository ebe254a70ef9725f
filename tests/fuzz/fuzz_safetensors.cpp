// Input: digits, a line break and a header make a file of that header and so many bytes of data; anything else is the file itself.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "checkpoint/safetensors.h"
#include "core/error.h"

namespace {

std::string file_of(const std::string& input) {
  const size_t line = input.find('\n');
  if (line == std::string::npos || line == 0 || line > 4 || input.find_first_not_of("0123456789") != line) return input;
  const std::string header = input.substr(line + 1);
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(header.size() >> (8 * i));
  return file + header + std::string(std::stoul(input.substr(0, line)), '\0');
}

void expect(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = file_of(std::string(reinterpret_cast<const char*>(data), size));
  try {
    uint64_t covered = 0;
    uint64_t bytes = 0;
    for (const tessera::SafetensorsTensor& tensor : tessera::parse_safetensors(std::as_bytes(std::span(file)), "file")) {
      expect(covered == 0 || tensor.begin == covered);
      expect(tensor.begin >= 8 && tensor.begin <= tensor.end && tensor.end <= file.size() && tensor.shape.size() <= 8);
      for (const int64_t dimension : tensor.shape) expect(dimension >= 0);
      covered = tensor.end;
      bytes += tensor.end - tensor.begin;
    }
    expect(covered == 0 || covered == file.size());
    expect(bytes < file.size());
  } catch (const tessera::FileError&) {
  }
  return 0;
}

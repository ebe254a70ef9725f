// For the comparison with the reference reader (tests/python/test_safetensors_differential.py): reads files from stdin, each behind its
// length in 8 little-endian bytes, and prints a line for each: "accepted", or the error.
#include <cstdint>
#include <iostream>
#include <string>

#include "checkpoint/safetensors.h"
#include "core/error.h"

int main() {
  uint64_t length = 0;
  while (std::cin.read(reinterpret_cast<char*>(&length), sizeof(length))) {
    std::string file(length, '\0');
    if (!std::cin.read(file.data(), static_cast<std::streamsize>(length))) return 1;
    try {
      tessera::parse_safetensors(std::as_bytes(std::span(file)), "file");
      std::cout << "accepted\n";
    } catch (const tessera::FileError& error) {
      std::cout << error.what() << '\n';
    }
  }
}

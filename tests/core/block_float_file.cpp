// block_float_file FORMAT IN OUT: for comparisons from Python. Reads float32 values (whole blocks of 16) and writes, as raw bytes, the
// blocks' exponents, all codes, and all values after rounding as float32.
#include <cstdio>
#include <fstream>
#include <vector>

#include "core/block_float.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const tessera::DataType format = tessera::parse_data_type(argv[1]);
  std::ifstream in(argv[2], std::ios::binary | std::ios::ate);
  std::vector<float> values(static_cast<size_t>(in.tellg()) / sizeof(float) / 16 * 16);
  in.seekg(0).read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  std::vector<uint8_t> exponents(values.size() / 16), codes(values.size());
  for (size_t block = 0; block < exponents.size(); ++block) {
    const std::span<float, 16> from(values.data() + 16 * block, 16);
    exponents[block] = tessera::encode_block(format, from, std::span<uint8_t, 16>(codes.data() + 16 * block, 16));
    for (size_t i = 16 * block; i < 16 * block + 16; ++i) values[i] = tessera::decode_block(format, exponents[block], codes[i]);
  }
  std::ofstream out(argv[3], std::ios::binary);
  out.write(reinterpret_cast<const char*>(exponents.data()), static_cast<std::streamsize>(exponents.size()));
  out.write(reinterpret_cast<const char*>(codes.data()), static_cast<std::streamsize>(codes.size()));
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  return in && out ? 0 : 1;
}

#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// A tensor of a safetensors file. Its bytes are file[begin, end), little-endian, row by row, at any alignment.
struct SafetensorsTensor {
  std::string name;        // any UTF-8 text: a key, never a path
  std::string_view dtype;  // the format's own name ("BF16", "I64"), one of the format's 22; static
  std::vector<int64_t> shape;
  uint64_t begin;
  uint64_t end;
};

// The tensors of a safetensors file in the order of their bytes. Reads the header only, and allocates in proportion to it: at most 9 bytes
// a byte at once.
//
// Throws FileError, naming the tensor and field, unless the file is what the format's specification says:
//   8 bytes of header length N <= 100,000,000; N bytes of JSON that begin with '{' and may end in blanks; the rest is data
//   {"name": {"dtype": text, "shape": [integers >= 0], "data_offsets": [begin, end]}, ..., "__metadata__": {text: text}}
//   each tensor's bytes are as many as dtype and shape say; together they cover the data without hole, overlap or rest
// Stricter than the reference reader 0.8.0: no key stands twice in one object, no blank before '{', at most 8 dimensions, each
// below 2^63, tensors written as objects, dtypes as text. As there: unknown fields of a tensor are skipped.
std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> file, const std::string& source);

}  // namespace tessera

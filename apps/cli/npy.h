#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "core/output_file.h"

namespace tessera {

// Writes a float32 array [rows, width] as .npy (NumPy's format 1.0), row by row. Errors are OutputFile's.
class NpyWriter {
 public:
  NpyWriter(const std::string& path, int64_t rows, int64_t width);
  void write_row(std::span<const float> row) { file_.write(row.data(), row.size_bytes()); }
  void finish() { file_.finish(); }

 private:
  OutputFile file_;
};

}  // namespace tessera

#include "cli/npy.h"

#include "core/error.h"

namespace tessera {

NpyWriter::NpyWriter(const std::string& path, int64_t rows, int64_t width) : file_(path) {
  std::string header = message("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", width, "), }");
  constexpr size_t kPrefix = 10, kAlignment = 64;
  header.append(kAlignment - (kPrefix + header.size() + 1) % kAlignment, ' ').push_back('\n');
  const unsigned char prefix[kPrefix] = {0x93,
                                         'N',
                                         'U',
                                         'M',
                                         'P',
                                         'Y',
                                         1,
                                         0,
                                         static_cast<unsigned char>(header.size() & 0xFF),
                                         static_cast<unsigned char>(header.size() >> 8)};
  file_.write(prefix, sizeof prefix);
  file_.write(header);
}

}  // namespace tessera

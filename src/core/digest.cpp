#include "core/digest.h"

#include <xxhash.h>

namespace tessera {

std::string digest(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    constexpr char kHex[] = "0123456789abcdef";
    text += {kHex[byte >> 4], kHex[byte & 15]};
  }
  return text;
}

}  // namespace tessera

#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tessera {

// XXH3's 128 bits as 32 hexadecimal digits: tells contents apart that nobody has made to collide.
std::string digest(std::span<const std::byte> bytes);
inline std::string digest(std::string_view text) { return digest(std::as_bytes(std::span(text))); }

}  // namespace tessera

#pragma once
#include <cstdint>

namespace tessera {

using TokenId = int32_t;

}  // namespace tessera

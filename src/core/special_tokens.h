#pragma once
#include <optional>
#include <vector>

#include "core/types.h"

namespace tessera {

struct SpecialTokens {
  std::vector<TokenId> eos;  // each ends a generation
  std::optional<TokenId> bos, pad;
};

}  // namespace tessera

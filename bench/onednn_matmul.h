#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "probes.h"

namespace tessera {

struct Yardstick {
  std::string name;  // "oneDNN 2.6.3 bfloat16"
  std::function<void()> run;
};

// oneDNN's matmul of rows [rows, in] by weights [in, out], which it packs as it likes beforehand, to float32: something to hold ours
// against in the same minute. Of float32 where oneDNN has none of bfloat16 for this processor. Nothing if this was built without oneDNN.
std::optional<Yardstick> onednn_matmul(Multiply kind, int64_t rows, int64_t out, int64_t in, int threads);

}  // namespace tessera

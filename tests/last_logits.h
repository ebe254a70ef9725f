#pragma once
#include <exception>
#include <span>
#include <vector>

#include "generate/generator.h"

namespace tessera {

// The logits of the sequence's last token; throws what stopped it.
inline std::vector<float> last_logits(Generator& generator, Sequence& sequence, const Generator::Progress& progress = {}) {
  std::vector<float> last;
  Generator::Request request{&sequence, 1};
  generator.forward(
      std::span(&request, 1), [&](size_t, int64_t, std::span<const float> logits) { last.assign(logits.begin(), logits.end()); }, progress);
  if (request.error) std::rethrow_exception(request.error);
  return last;
}

}  // namespace tessera

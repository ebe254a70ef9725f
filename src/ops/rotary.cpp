#include "ops/rotary.h"

#include <cmath>

namespace tessera {

Rotary linear_rotary(int64_t dim, double theta, double factor) {
  Rotary rotary;
  rotary.dim = dim;
  rotary.inverse_frequencies = scaled_frequencies(dim, theta, std::vector<float>(static_cast<size_t>(dim / 2), 1.0f));
  for (float& frequency : rotary.inverse_frequencies) frequency /= static_cast<float>(factor);
  return rotary;
}

std::vector<float> scaled_frequencies(int64_t dim, double theta, const std::vector<float>& factors) {
  std::vector<float> frequencies(factors.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    frequencies[i] = 1.0f / (factors[i] * std::pow(static_cast<float>(theta), exponent));
  }
  return frequencies;
}

}  // namespace tessera

#include "ops/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tessera {

RotaryRows rotary_rows(ThreadPool& pool, const Batch& batch, const Rotary& rotary, DataType activations, int64_t rows) {
  const int64_t half = rotary.dim / 2, per_piece = std::max<int64_t>(1, 1024 / half);  // tokens: some microseconds of sines
  RotaryRows made{std::vector<float>(static_cast<size_t>(rows * half)), std::vector<float>(static_cast<size_t>(rows * half))};
  const auto round = [&](float x) { return rotary.rounds && activations == DataType::bfloat16 ? round_to_bfloat16(x) : x; };
  for (const Batch::Slice& slice : batch.slices) {
    const std::vector<float>& frequencies = rotary.frequencies(slice.rope_length);
    pool.parallel_for((slice.count + per_piece - 1) / per_piece, [&](int64_t piece, int) {
      for (int64_t token = piece * per_piece; token < std::min(slice.count, (piece + 1) * per_piece); ++token) {
        const auto position = static_cast<float>(slice.position + token);
        const double growth = rotary.growth * std::log1p(static_cast<double>((slice.position + token) / rotary.growth_after));
        const float factor = rotary.attention_factor * static_cast<float>(1 + growth);
        for (int64_t i = 0; i < half; ++i) {
          const double angle = position * frequencies[static_cast<size_t>(i)];  // the product is a float32's
          const auto at = static_cast<size_t>((slice.first + token) * half + i);
          made.cos[at] = round(static_cast<float>(std::cos(angle)) * factor);
          made.sin[at] = round(static_cast<float>(std::sin(angle)) * factor);
        }
      }
    });
  }
  return made;
}

std::vector<float> scaled_frequencies(int64_t dim, double theta, const std::vector<float>& factors) {
  std::vector<float> frequencies(factors.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    frequencies[i] = 1.0f / (factors[i] * std::pow(static_cast<float>(theta), exponent));
  }
  return frequencies;
}

std::vector<float> linear_frequencies(int64_t dim, double theta, double factor) {
  std::vector<float> frequencies = scaled_frequencies(dim, theta, std::vector<float>(static_cast<size_t>(dim / 2), 1.0f));
  for (float& frequency : frequencies) frequency /= static_cast<float>(factor);
  return frequencies;
}

std::vector<float> llama3_frequencies(int64_t dim, double theta, const Llama3Scaling& scaling) {
  const auto factor = static_cast<float>(scaling.factor), low = static_cast<float>(scaling.low_freq_factor),
             range = static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor),
             original = static_cast<float>(scaling.original_max_position_embeddings);
  const auto longest = static_cast<float>(scaling.original_max_position_embeddings / scaling.low_freq_factor),
             shortest = static_cast<float>(scaling.original_max_position_embeddings / scaling.high_freq_factor);
  std::vector<float> frequencies = linear_frequencies(dim, theta, 1.0);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > longest) {
      frequency /= factor;
    } else if (wavelength >= shortest) {
      const float smooth = (original / wavelength - low) / range;
      frequency = (1.0f - smooth) * frequency / factor + smooth * frequency;
    }
  }
  return frequencies;
}

std::vector<float> yarn_frequencies(int64_t dim, double theta, const YarnScaling& scaling) {
  // The index whose frequency turns so many times in the original context.
  const auto index_of = [&](double turns) {
    return static_cast<double>(dim) * std::log(scaling.original_max_position_embeddings / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(theta));
  };
  double low = index_of(scaling.beta_fast), high = index_of(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const size_t count = static_cast<size_t>(dim / 2);
  const std::vector<float> kept = linear_frequencies(dim, theta, 1.0),
                           stretched = scaled_frequencies(dim, theta, std::vector<float>(count, static_cast<float>(scaling.factor)));
  std::vector<float> frequencies(count);
  for (size_t i = 0; i < count; ++i) {
    const float ramp = std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float keep = 1.0f - ramp;
    frequencies[i] = stretched[i] * (1.0f - keep) + kept[i] * keep;
  }
  return frequencies;
}

}  // namespace tessera

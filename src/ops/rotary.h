#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

// A rotary embedding's parameters; the device makes cos and sin for a Step's positions. The pairs are (i, i + dim/2), as in Hugging
// Face's rotate_half; a head wider than `dim` passes its rest through. LongRoPE has two sets, chosen by a slice's rope_length.
struct Rotary {
  std::string type = "default";  // as transformers' rope_type
  double theta = 0, factor = 1;  // as config.json has them; for people: the frequencies hold them already

  int64_t dim = 0;                              // values of a head that rotate
  std::vector<float> inverse_frequencies;       // [dim / 2]
  std::vector<float> long_inverse_frequencies;  // [dim / 2]; empty: there is one set
  int64_t long_after = 0;                       // rope_length beyond which the long set applies
  float attention_factor = 1.0f;                // multiplies cos and sin

  const std::vector<float>& frequencies(int64_t rope_length) const {
    return !long_inverse_frequencies.empty() && rope_length > long_after ? long_inverse_frequencies : inverse_frequencies;
  }
};

// inverse_frequencies[i] = 1 / theta^(2i/dim) / factor in float32, as transformers' modeling_rope_utils.py
// (_compute_default_rope_parameters, _compute_linear_scaling_rope_parameters).
Rotary linear_rotary(int64_t dim, double theta, double factor);

// inverse_frequencies[i] = 1 / (factors[i] * theta^(2i/dim)) in float32 (_compute_longrope_parameters).
std::vector<float> scaled_frequencies(int64_t dim, double theta, const std::vector<float>& factors);

}  // namespace tessera

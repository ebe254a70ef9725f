#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/data_type.h"
#include "core/thread_pool.h"

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
  bool rounds = true;                           // cos and sin, to the activations' type; OLMo's do not
  // Ministral 3's queries grow with their position: times 1 + growth * ln(1 + floor(position / growth_after)).
  double growth = 0;
  int64_t growth_after = 1;

  const std::vector<float>& frequencies(int64_t rope_length) const {
    return !long_inverse_frequencies.empty() && rope_length > long_after ? long_inverse_frequencies : inverse_frequencies;
  }
};

// What the heads of each row are turned by.
struct RotaryRows {
  std::vector<float> cos, sin;  // [rows][dim / 2]
};

// Of each token of the Batch, and zeros up to `rows`: angles in float32 as Hugging Face makes them, times the attention factor, rounded to
// `activations` if it rounds.
RotaryRows rotary_rows(ThreadPool& pool, const Batch& batch, const Rotary& rotary, DataType activations, int64_t rows);

// Inverse frequencies [dim / 2] in float32, as the functions of transformers' modeling_rope_utils.py (5.23) that are named.

// 1 / (factors[i] * theta^(2i/dim)): _compute_longrope_parameters.
std::vector<float> scaled_frequencies(int64_t dim, double theta, const std::vector<float>& factors);

// 1 / theta^(2i/dim) / factor: _compute_linear_scaling_rope_parameters; with factor 1 the plain ones.
std::vector<float> linear_frequencies(int64_t dim, double theta, double factor);

// Wavelengths over original / low_freq_factor are stretched by `factor`, those under original / high_freq_factor stay, and those between
// are blended: _compute_llama3_parameters.
struct Llama3Scaling {
  double factor, low_freq_factor, high_freq_factor;
  double original_max_position_embeddings;
};
std::vector<float> llama3_frequencies(int64_t dim, double theta, const Llama3Scaling& scaling);

// Frequencies that turn fewer than beta_slow times in the original context are stretched by `factor`, those that turn more than beta_fast
// times stay, and a ramp over their indices lies between: _compute_yarn_parameters.
struct YarnScaling {
  double factor, beta_fast, beta_slow;
  double original_max_position_embeddings;
  bool truncate;  // the ramp's ends to whole indices
};
std::vector<float> yarn_frequencies(int64_t dim, double theta, const YarnScaling& scaling);

}  // namespace tessera

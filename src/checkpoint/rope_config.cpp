#include "checkpoint/rope_config.h"

#include <cmath>
#include <optional>
#include <string>
#include <utility>

namespace tessera {
namespace {

constexpr NumberRange kTheta{.min = 1.0, .max = 1e18};
constexpr NumberRange kFactor{.min = 1e-6, .max = 1e6};

// The reader among `readers`, the first one first, that contains `field`; nullptr: none.
const ConfigReader* holder(std::initializer_list<const std::optional<ConfigReader>*> readers, std::string_view field) {
  for (const std::optional<ConfigReader>* const reader : readers) {
    if (*reader && (*reader)->contains(field)) return &**reader;
  }
  return nullptr;
}

// `scaling` overrides `parameters`.
LinearRope read_linear_rope(const std::optional<ConfigReader>& scaling, const std::optional<ConfigReader>& parameters,
                            double absent_theta) {
  LinearRope rope{.theta = absent_theta, .factor = 1.0};
  if (const ConfigReader* const theta = holder({&scaling, &parameters}, "rope_theta")) rope.theta = theta->number("rope_theta", kTheta);

  std::string_view field = "rope_type";
  const ConfigReader* type = holder({&scaling, &parameters}, field);
  // Without parameters there is a "rope_type": "default" in their place.
  if (type == nullptr && parameters) type = holder({&scaling, &parameters}, field = "type");
  const std::string name = type == nullptr ? "default" : type->text(field);
  if (name == "default") return rope;
  if (name != "linear") type->refuse(field, "for Gemma 3, \"default\" and \"linear\" are supported");
  const ConfigReader* const factor = holder({&scaling, &parameters}, "factor");
  rope.factor = (factor == nullptr ? type : factor)->number("factor", kFactor);
  return rope;
}

std::vector<float> read_factors(const ConfigReader& rope, std::string_view field, int64_t count) {
  const std::vector<double> values = rope.numbers(field, kFactor, 1 << 16);
  if (static_cast<int64_t>(values.size()) != count)
    rope.refuse(field, "half of the ", 2 * count, " rotating values of a head need ", count);
  return {values.begin(), values.end()};
}

// As modeling_rope_utils.py, _compute_longrope_parameters.
double longrope_attention_factor(const ConfigReader& rope, double max_positions, double original_max_positions) {
  if (const std::optional<double> given = rope.optional_number("attention_factor", kFactor)) return *given;
  const double factor = rope.optional_number("factor", kFactor).value_or(max_positions / original_max_positions);
  return factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(original_max_positions));
}

}  // namespace

Gemma3Rope read_gemma3_rope(const ConfigReader& config) {
  const std::optional<ConfigReader> parameters = config.object("rope_parameters");
  std::optional<ConfigReader> full, sliding;
  if (parameters) {
    if (!parameters->contains("full_attention") && !parameters->contains("sliding_attention"))
      config.refuse("rope_parameters", "for Gemma 3 it holds full_attention and sliding_attention");
    full = parameters->object("full_attention");
    sliding = parameters->object("sliding_attention");
  }
  return {.full = read_linear_rope(config.object("rope_scaling"), full, config.number("rope_theta", kTheta, 1e6)),
          .sliding = read_linear_rope(std::nullopt, sliding, config.number("rope_local_base_freq", kTheta, 1e4))};
}

Phi3Rope read_phi3_rope(const ConfigReader& config, int64_t head_dim, int64_t max_position_embeddings) {
  std::optional<ConfigReader> rope = config.object("rope_scaling");
  if (!rope || rope->empty()) rope = config.object("rope_parameters");
  const ConfigReader& theta_holder = rope && rope->contains("rope_theta") ? *rope : config;
  const ConfigReader& partial_holder = rope && rope->contains("partial_rotary_factor") ? *rope : config;

  Phi3Rope result{
      .rotary_dim = 0,
      .theta = theta_holder.number("rope_theta", kTheta, 1e4),
      .short_factor = {},
      .long_factor = {},
      .original_max_position_embeddings = config.integer("original_max_position_embeddings", {.min = 2, .max = INT32_MAX}, 4096),
      .attention_factor = 1.0f};
  const double partial = partial_holder.number("partial_rotary_factor", {.above = 0.0, .max = 1.0}, 1.0);
  result.rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim) * partial);
  check<FileError>(result.rotary_dim >= 2 && result.rotary_dim % 2 == 0, partial_holder.where("partial_rotary_factor"), " is ", partial,
                   ": of a head of ", head_dim, " values ", result.rotary_dim, " would rotate, which must be an even number");
  if (!rope) return result;

  const std::string_view field = rope->contains("rope_type") ? "rope_type" : "type";
  const std::string type = rope->text(field, "default");
  if (type == "default") return result;
  if (type != "longrope" && type != "su" && type != "yarn") rope->refuse(field, "for Phi-3, \"default\" and \"longrope\" are supported");
  result.short_factor = read_factors(*rope, "short_factor", result.rotary_dim / 2);
  result.long_factor = read_factors(*rope, "long_factor", result.rotary_dim / 2);
  result.attention_factor = static_cast<float>(longrope_attention_factor(*rope, static_cast<double>(max_position_embeddings),
                                                                         static_cast<double>(result.original_max_position_embeddings)));
  return result;
}

}  // namespace tessera

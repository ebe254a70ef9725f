#include "checkpoint/rope_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace tessera {
namespace {

constexpr NumberRange kTheta{.min = 1.0, .max = 1e18};
constexpr NumberRange kFactor{.min = 1e-6, .max = 1e6};
constexpr IntegerRange kOriginal{.min = 2, .max = INT32_MAX};

// The objects that describe one rotary embedding, perhaps none: the first that has a field says it.
class Rope {
 public:
  explicit Rope(std::vector<ConfigReader> parts) : parts_(std::move(parts)) {
    if (parts_.empty()) parts_.emplace_back(nothing_.root(), "rope_parameters");
  }
  Rope(const Rope&) = delete;
  Rope& operator=(const Rope&) = delete;

  const ConfigReader* holder(std::string_view field) const {
    const auto found = std::find_if(parts_.begin(), parts_.end(), [&](const ConfigReader& part) { return part.contains(field); });
    return found == parts_.end() ? nullptr : &*found;
  }
  // Where a missing field is missed.
  const ConfigReader& at(std::string_view field) const {
    const ConfigReader* const part = holder(field);
    return part != nullptr ? *part : parts_.front();
  }
  double factor(std::string_view field) const { return at(field).number(field, kFactor); }
  std::optional<double> optional_factor(std::string_view field) const { return at(field).optional_number(field, kFactor); }
  // As Python's `value or otherwise`.
  double number_or(std::string_view field, double otherwise) const {
    const double value = at(field).optional_number(field, {.min = 0, .max = 1e6}).value_or(0);
    return value != 0 ? value : otherwise;
  }

 private:
  JsonDocument nothing_ = parse_json("{}", "rope_parameters");
  std::vector<ConfigReader> parts_;  // never empty
};

std::vector<float> read_factors(const Rope& rope, std::string_view field, int64_t count) {
  const ConfigReader& part = rope.at(field);
  const std::vector<double> values = part.numbers(field, kFactor, 1 << 16);
  if (static_cast<int64_t>(values.size()) != count)
    part.refuse(field, "half of the ", 2 * count, " rotating values of a head need ", count);
  return {values.begin(), values.end()};
}

RopeType read_type(const Rope& rope, std::string_view field, const RopeDefaults& defaults) {
  const ConfigReader* const part = rope.holder(field);
  const std::string name = part == nullptr ? "default" : part->text(field);
  std::string known;
  for (const RopeName& type : defaults.types) {
    if (type.name == name) return type.type;
    known += (known.empty() ? "\"" : ", \"") + std::string(type.name) + '"';
  }
  part->refuse(field, "this architecture's are ", known);
}

int64_t rotary_dim(const Rope& rope, const ConfigReader& config, const RopeDefaults& defaults) {
  constexpr std::string_view kField = "partial_rotary_factor";
  const ConfigReader& part = rope.holder(kField) != nullptr ? rope.at(kField) : config;
  const double partial = part.is_set(kField) ? part.number(kField, {.above = 0.0, .max = 1.0}) : 1.0;
  if (partial != 1.0 && !defaults.rotates_a_part) part.refuse(kField, "this architecture rotates whole heads");
  const auto dim = static_cast<int64_t>(static_cast<double>(defaults.head_dim) * partial);
  check<FileError>(dim >= 2 && dim % 2 == 0, part.where(kField), " is ", partial, ": of a head of ", defaults.head_dim, " values ", dim,
                   " would rotate, which must be an even number");
  return dim;
}

// RotaryEmbeddingConfigMixin.standardize_rope_params.
double original_context(const Rope& rope, const ConfigReader& config, const RopeDefaults& defaults) {
  constexpr std::string_view kField = "original_max_position_embeddings";
  if (defaults.original_max_position_embeddings || config.contains(kField))
    return static_cast<double>(config.integer(kField, kOriginal, defaults.original_max_position_embeddings));
  return static_cast<double>(rope.at(kField).integer(kField, kOriginal, defaults.max_position_embeddings));
}

double mscale(double scale, double by) { return scale <= 1 ? 1.0 : 0.1 * by * std::log(scale) + 1.0; }

void set_yarn(Rotary& rotary, const Rope& rope, double context, double original) {
  rotary.factor =
      rope.at("factor").contains("factor") ? rope.optional_factor("factor").value_or(context / original) : rope.factor("factor");
  rotary.inverse_frequencies = yarn_frequencies(rotary.dim, rotary.theta,
                                                {.factor = rotary.factor,
                                                 .beta_fast = rope.number_or("beta_fast", 32),
                                                 .beta_slow = rope.number_or("beta_slow", 1),
                                                 .original_max_position_embeddings = original,
                                                 .truncate = rope.at("truncate").boolean("truncate", true)});
  const double by = rope.number_or("mscale", 0), by_all = rope.number_or("mscale_all_dim", 0);
  const double implied = by != 0 && by_all != 0 ? mscale(rotary.factor, by) / mscale(rotary.factor, by_all) : mscale(rotary.factor, 1);
  rotary.attention_factor = static_cast<float>(rope.optional_factor("attention_factor").value_or(implied));
}

void set_longrope(Rotary& rotary, const Rope& rope, double context, double original) {
  rotary.inverse_frequencies = scaled_frequencies(rotary.dim, rotary.theta, read_factors(rope, "short_factor", rotary.dim / 2));
  rotary.long_inverse_frequencies = scaled_frequencies(rotary.dim, rotary.theta, read_factors(rope, "long_factor", rotary.dim / 2));
  rotary.long_after = static_cast<int64_t>(original);
  rotary.factor = rope.optional_factor("factor").value_or(context / original);
  const double implied = rotary.factor <= 1 ? 1.0 : std::sqrt(1 + std::log(rotary.factor) / std::log(original));
  rotary.attention_factor = static_cast<float>(rope.optional_factor("attention_factor").value_or(implied));
}

// `theta`: what stands outside of the rope.
Rotary build(const Rope& rope, std::string_view type_field, double theta, const ConfigReader& config, const RopeDefaults& defaults) {
  const RopeType type = read_type(rope, type_field, defaults);
  Rotary rotary;
  rotary.theta = rope.at("rope_theta").number("rope_theta", kTheta, theta);
  rotary.dim = rotary_dim(rope, config, defaults);
  rotary.type = std::find_if(std::begin(kRopeTypes), std::end(kRopeTypes), [&](const RopeName& known) { return known.type == type; })->name;
  rotary.inverse_frequencies = linear_frequencies(rotary.dim, rotary.theta, 1.0);
  if (type == RopeType::standard) return rotary;
  if (type == RopeType::linear || type == RopeType::dynamic) {
    rotary.factor = rope.factor("factor");
    if (type == RopeType::linear) rotary.inverse_frequencies = linear_frequencies(rotary.dim, rotary.theta, rotary.factor);
    return rotary;
  }
  const double original = original_context(rope, config, defaults), context = static_cast<double>(defaults.max_position_embeddings);
  if (type == RopeType::yarn) set_yarn(rotary, rope, context, original);
  if (type == RopeType::longrope) set_longrope(rotary, rope, context, original);
  if (type == RopeType::llama3) {
    rotary.factor = rope.factor("factor");
    rotary.inverse_frequencies = llama3_frequencies(
        rotary.dim, rotary.theta, {rotary.factor, rope.factor("low_freq_factor"), rope.factor("high_freq_factor"), original});
  }
  return rotary;
}

Rotary read(const Rope& rope, std::string_view type_field, double theta, const ConfigReader& config, const RopeDefaults& defaults) {
  Rotary rotary = build(rope, type_field, theta, config, defaults);
  const std::vector<float>& all = rotary.inverse_frequencies;
  check<FileError>(std::all_of(all.begin(), all.end(), [](float frequency) { return std::isfinite(frequency); }),
                   rope.at(type_field).where(type_field), " is ", rotary.type, ", with which a frequency is no number; are rope_theta, ",
                   rotary.theta, ", and its factors right?");
  return rotary;
}

// transformers reads the old key only where the new one is absent.
std::string_view type_field(const Rope& rope) { return rope.holder("rope_type") != nullptr ? "rope_type" : "type"; }

}  // namespace

Rotary read_rope(const ConfigReader& config, const RopeDefaults& defaults) {
  std::string_view field = "rope_scaling";
  std::optional<ConfigReader> object = config.object(field);
  if (!object || object->empty()) object = config.object(field = "rope_parameters");
  for (const char* layers : {"full_attention", "sliding_attention"})
    if (object && object->contains(layers)) config.refuse(field, "this architecture has one rotary embedding for all layers");
  const double theta = object && object->contains("rope_theta") ? defaults.theta : config.number("rope_theta", kTheta, defaults.theta);
  const Rope rope(object ? std::vector{*object} : std::vector<ConfigReader>());
  return read(rope, type_field(rope), theta, config, defaults);
}

Rotary read_layer_rope(const ConfigReader& config, std::string_view layer_type, std::string_view scaling, std::string_view theta_field,
                       const RopeDefaults& defaults) {
  std::vector<ConfigReader> parts;
  if (const auto object = scaling.empty() ? std::nullopt : config.object(scaling)) parts.push_back(*object);
  const std::optional<ConfigReader> parameters = config.object("rope_parameters");
  if (parameters) {
    if (!parameters->contains("full_attention") && !parameters->contains("sliding_attention"))
      config.refuse("rope_parameters", "for this architecture it holds full_attention and sliding_attention");
    if (const auto object = parameters->object(layer_type)) parts.push_back(*object);
  }
  const bool old_key = parameters && parameters->object(layer_type);
  const Rope rope(std::move(parts));
  return read(rope, old_key ? type_field(rope) : "rope_type", config.number(theta_field, kTheta, defaults.theta), config, defaults);
}

}  // namespace tessera

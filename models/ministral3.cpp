// Follows transformers' modeling_ministral3.py and, for its language model alone, modeling_mistral3.py (5.23): a Mistral whose queries grow
// with their position.
#include "core/json.h"
#include "models/llama.h"

namespace tessera {
namespace {

constexpr std::string_view kRope = R"({"rope_parameters": {
  "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384, "beta_fast": 32.0,
  "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1}})";

LlamaConfig read(const ConfigReader& json) {
  Config defaults = mistral_defaults();
  defaults.vocab_size = 131072;
  defaults.num_hidden_layers = 34;
  defaults.head_dim = 128;
  defaults.max_position_embeddings = 262144;
  defaults.rms_norm_eps = 1e-5;
  defaults.tokens.pad = 11;
  LlamaConfig c{read_config(json, defaults)};
  c.windows.assign(static_cast<size_t>(c.num_hidden_layers), json.optional_integer("sliding_window", kTokens));

  const JsonDocument implied = parse_json(kRope, "Ministral3Config");
  const ConfigReader& holder =
      json.is_set("rope_parameters") || json.is_set("rope_scaling") ? json : ConfigReader(implied.root(), "Ministral3Config");
  Rotary rotary = read_rope(holder, {c.head_dim, c.max_position_embeddings, 1e6});
  c.ropes.push_back({"all", rotary});
  // get_llama_4_attn_scale
  const ConfigReader rope = *holder.object(holder.is_set("rope_scaling") ? "rope_scaling" : "rope_parameters");
  rotary.growth = rope.number("llama_4_scaling_beta", {.min = 0, .max = 1e6});
  rotary.growth_after = rope.integer("original_max_position_embeddings", kTokens);
  if (rotary.growth > 0) c.ropes.push_back({"queries", rotary});
  return c;
}

}  // namespace

std::unique_ptr<Model> make_ministral3(const ConfigReader& json, Weights& weights) { return make_llama(json, read(json), weights); }

// The language model of a multimodal checkpoint.
std::unique_ptr<Model> make_mistral3(const ConfigReader& json, Weights& weights) {
  const std::optional<ConfigReader> text = json.object("text_config");
  check<FileError>(text.has_value(), json.where("text_config"), " is missing: it describes this architecture's language model");
  return text->text("model_type", "mistral") == "ministral3" ? make_ministral3(*text, weights)
                                                             : make_llama(*text, read_mistral(*text), weights);
}

}  // namespace tessera

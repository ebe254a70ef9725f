#include "models/registry.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "checkpoint/kept_weights.h"
#include "core/error.h"
#include "models/description.h"
#include "models/dry_run.h"

namespace tessera {

// Each in its model's own file.
using Make = std::unique_ptr<Model>(const ConfigReader& config, Weights& weights);
Make make_gemma2, make_gemma3, make_ministral3, make_mistral3, make_olmo2, make_olmo3, make_olmoe, make_phi3, make_qwen2, make_qwen3,
    make_qwen3_moe;
Make make_arcee, make_granite, make_llama, make_ministral, make_mistral, make_smollm3;  // in llama.cpp

namespace {

struct Architecture {
  std::string_view name, model_type;  // of config.json
  std::string_view bare;              // the name when it was saved without its head
  Make* make;
};

constexpr std::array kArchitectures{
    Architecture{"ArceeForCausalLM", "arcee", "ArceeModel", make_arcee},
    Architecture{"Gemma2ForCausalLM", "gemma2", "Gemma2Model", make_gemma2},
    Architecture{"Gemma3ForCausalLM", "gemma3_text", "Gemma3TextModel", make_gemma3},
    Architecture{"Gemma3ForConditionalGeneration", "gemma3", "Gemma3Model", make_gemma3},
    Architecture{"GraniteForCausalLM", "granite", "GraniteModel", make_granite},
    Architecture{"LlamaForCausalLM", "llama", "LlamaModel", make_llama},
    Architecture{"Ministral3ForCausalLM", "ministral3", "Ministral3Model", make_ministral3},
    Architecture{"MinistralForCausalLM", "ministral", "MinistralModel", make_ministral},
    Architecture{"Mistral3ForConditionalGeneration", "mistral3", "Mistral3Model", make_mistral3},
    Architecture{"MistralForCausalLM", "mistral", "MistralModel", make_mistral},
    Architecture{"Olmo2ForCausalLM", "olmo2", "Olmo2Model", make_olmo2},
    Architecture{"Olmo3ForCausalLM", "olmo3", "Olmo3Model", make_olmo3},
    Architecture{"OlmoeForCausalLM", "olmoe", "OlmoeModel", make_olmoe},
    Architecture{"Phi3ForCausalLM", "phi3", "Phi3Model", make_phi3},
    Architecture{"Qwen2ForCausalLM", "qwen2", "Qwen2Model", make_qwen2},
    Architecture{"Qwen3ForCausalLM", "qwen3", "Qwen3Model", make_qwen3},
    Architecture{"Qwen3MoeForCausalLM", "qwen3_moe", "Qwen3MoeModel", make_qwen3_moe},
    Architecture{"SmolLM3ForCausalLM", "smollm3", "SmolLM3Model", make_smollm3},
};

const Architecture& find(const std::string& name, const std::string& model_type) {
  for (const Architecture& architecture : kArchitectures)
    if (name.empty() ? architecture.model_type == model_type : architecture.name == name || architecture.bare == name) return architecture;
  for (const Architecture& architecture : kArchitectures)
    check<FileError>(architecture.model_type != model_type, "config.json: architecture ", printable(name),
                     " is not supported; of the family ", model_type, " these are: ", architecture.name, ", ", architecture.bare);
  std::string known;
  for (const Architecture& architecture : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  fail<FileError>("config.json: architecture ", printable(name.empty() ? model_type : name), " is not supported; these are: ", known);
}

std::string model_type_of(const ConfigReader& config) { return config.optional_text("model_type").value_or(""); }

constexpr uint64_t kLeastKeptBytes = uint64_t{64} << 20;  // of a checkpoint: less is packed in no time

// One file for each checkpoint's directory, device and type of weights, replaced when it is outdated.
std::optional<KeptWeights> kept_weights(const Checkpoint& checkpoint, const WeightSource& source, const Device& device, DataType weights) {
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : source.tensors()) bytes += tensor.bytes;
  const std::optional<std::filesystem::path> folder = kept_folder();
  if (!folder || bytes < kLeastKeptBytes) return std::nullopt;
  return KeptWeights(kept_path(*folder, checkpoint.directory(), message('\n', device.packed_layout(), '\n', weights), ".weights"), source,
                     device, weights);
}

// All but what other files than config.json hold.
ModelDescription describe(const ConfigReader& config, const Architecture& architecture, Weights& weights, DryDevice& device) {
  const std::unique_ptr<Model> model = architecture.make(config, weights);
  ModelDescription description{.architecture = std::string(architecture.name), .spec = model->spec()};
  description.weights = std::move(device.packed);
  return description;
}

}  // namespace

ModelOptions resolve(const Precision& precision, std::span<const StoredTensor> tensors) {
  const bool exact = std::all_of(tensors.begin(), tensors.end(),
                                 [](const StoredTensor& tensor) { return !tensor.type || *tensor.type == StoredType::bfloat16; });
  return resolve(precision, exact ? DataType::bfloat16 : DataType::float32);
}

ModelOptions resolve(const Precision& precision, DataType stored) {
  ModelOptions options;
  options.weights = precision.weights.value_or(stored);
  options.activations = precision.activations.value_or(DataType::bfloat16);
  options.cache = precision.cache.value_or(options.activations);
  check(options.activations == DataType::float32 || options.activations == DataType::bfloat16, "activations: ", options.activations,
        " is not a type of activations; choose float32 or bfloat16");
  check(options.cache != DataType::bfloat4_b, "cache: ", options.cache, " is not a type of caches; choose float32, bfloat16 or bfloat8_b");
  return options;
}

std::vector<ArchitectureName> architectures() {
  std::vector<ArchitectureName> all;
  for (const Architecture& architecture : kArchitectures) {
    const auto first = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                    [&](const Architecture& other) { return other.make == architecture.make; });
    all.push_back({std::string(architecture.name), std::string(architecture.model_type), std::string(first->name)});
  }
  return all;
}

std::unique_ptr<Model> make_model(const std::string& architecture, const ConfigReader& config, Weights& weights) {
  return find(architecture, model_type_of(config)).make(config, weights);
}

ModelDescription describe_model(const Checkpoint& checkpoint) {
  const Architecture& architecture = find(checkpoint.architecture(), checkpoint.model_type());
  const ConfigReader config = checkpoint.config();
  std::shared_ptr<WeightSource> source = checkpoint.weights();
  HeadersOnly headers(*source);
  DryDevice device;
  Weights weights(headers, device, {});
  ModelDescription description = describe(config, architecture, weights, device);
  description.generation = checkpoint.generation_config(description.spec.tokens, description.spec.vocab_size);
  description.tensors = source->tensors();
  std::vector<StoredTensor> used;
  std::copy_if(description.tensors.begin(), description.tensors.end(), std::back_inserter(used),
               [&](const StoredTensor& tensor) { return !weights.is_left(tensor.name); });
  description.stored = resolve({}, used).weights;
  description.notes = source->notes();
  description.notes.insert(description.notes.end(), weights.notes().begin(), weights.notes().end());
  description.source = std::move(source);
  return description;
}

ModelDescription describe_config(const Checkpoint& checkpoint) {
  try {
    return describe_model(checkpoint);
  } catch (const FileError&) {  // the weights are not there, or not whole
    const std::string name =
        checkpoint.architecture().empty() ? std::string(find("", checkpoint.model_type()).name) : checkpoint.architecture();
    return describe_config(name, checkpoint.config());
  }
}

ModelDescription describe_config(const std::string& architecture, const ConfigReader& config) {
  DryDevice device;
  Weights weights(device);
  ModelDescription description = describe(config, find(architecture, model_type_of(config)), weights, device);
  const ConfigReader text = config.object("text_config").value_or(config);
  bool exact = false;
  for (const ConfigReader& part : {config, text})
    for (const char* field : {"torch_dtype", "dtype"}) exact |= part.is_set(field) && part.text(field) == "bfloat16";
  for (ModelDescription::Weight& weight : description.weights) weight.exact = exact;
  description.stored = exact ? DataType::bfloat16 : DataType::float32;
  return description;
}

LoadedModel load_model(const Checkpoint& checkpoint, Device& device, const Precision& precision, const Weights::Progress& progress) {
  return load_model(checkpoint, describe_model(checkpoint), device, precision, progress);
}

LoadedModel load_model(const Checkpoint& checkpoint, const ModelDescription& description, Device& device, const Precision& precision,
                       const Weights::Progress& progress) {
  WeightSource& source = *description.source;
  LoadedModel loaded{.model = nullptr, .options = resolve(precision, description.stored), .generation = description.generation};
  std::optional<KeptWeights> kept = kept_weights(checkpoint, source, device, loaded.options.weights);
  Weights weights(source, device, loaded.options, progress, kept ? &*kept : nullptr);
  loaded.model = make_model(description.architecture, checkpoint.config(), weights);
  loaded.num_parameters = weights.num_parameters();
  loaded.notes = source.notes();
  const std::vector<std::string> notes = kept ? kept->finish(weights.notes()) : weights.notes();
  loaded.notes.insert(loaded.notes.end(), notes.begin(), notes.end());
  return loaded;
}

}  // namespace tessera

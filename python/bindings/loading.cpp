// Devices, checkpoints and models.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bindings.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/hub.h"
#include "checkpoint/memory_source.h"
#include "cli/cli_main.h"
#include "core/error.h"
#include "cpu/cpu_device.h"
#include "kinds/memory_plan.h"
#include "ttnn/ttnn_device.h"

namespace tessera::python {
namespace {

using namespace nb::literals;
using Stored = nb::ndarray<nb::ro, nb::device::cpu, nb::c_contig>;

// Called with the GIL held.
ttnn::Traces::Tell told(const nb::object& notice) {
  if (notice.is_none()) return tell;
  return [notice](const std::string& text) { notice(text); };
}

std::unique_ptr<Device> open_device(const std::string& name, int threads, int device_id, const std::optional<std::string>& module,
                                    bool trace, int timeout, const nb::object& notice, const std::optional<std::string>& twin) {
  return tessera::open_device(name, {.threads = threads,
                                     .twin = twin,
                                     .device_id = device_id,
                                     .trace = trace,
                                     .timeout = timeout,
                                     .module = module,
                                     .notice = told(notice)});
}

// `name`, or what TESSERA_TTNN_MODULE names, or "ttnn".
std::string ttnn_module(const std::optional<std::string>& name) {
  const char* named = std::getenv("TESSERA_TTNN_MODULE");
  return name.value_or(named != nullptr && *named != '\0' ? named : "ttnn");
}

ttnn::Tracing tracing(bool trace) { return trace ? ttnn::Tracing::on : ttnn::Tracing::off; }

// While it waits for the card, it says so on standard error: TTNN keeps the GIL, so that no warning of Python's could be given.
std::unique_ptr<Device> open_n150(const OpenOptions& options) {
  const nb::gil_scoped_acquire gil;
  const auto waiting = [id = options.device_id] {
    tell(message("waiting for card ", id, ": it is not open after 5 s; another process may have it"));
  };
  const ttnn::Patience patience{std::chrono::seconds(options.timeout), waiting, options.hung};
  return std::make_unique<ttnn::TtnnDevice>(
      std::make_unique<ttnn::Module>(ttnn_module(options.module), options.device_id, options.trace ? n150::kTraceBytes : 0, patience),
      tracing(options.trace), options.notice);
}

std::unique_ptr<Device> use_card(nb::object card, const std::optional<std::string>& module, bool trace, const nb::object& notice) {
  return std::make_unique<ttnn::TtnnDevice>(std::make_unique<ttnn::Module>(ttnn_module(module), std::move(card)), tracing(trace),
                                            told(notice));
}

Precision precision(const std::optional<std::string>& weights, const std::optional<std::string>& activations,
                    const std::optional<std::string>& cache) {
  return {.weights = data_type(weights), .activations = data_type(activations), .cache = data_type(cache)};
}

// Throws ResourceError, in the words of `tessera plan`, when `device` does not hold the model with one context of so many tokens, or of as
// many as the model takes.
void expect_fits(const std::string& device, const ModelDescription& model, const std::string& what, std::optional<int64_t> context,
                 const Precision& asked) {
  const MemoryPlan plan{device_kind(device), model};
  const int64_t longest = model.spec.max_position_embeddings;
  plan.expect_fits(plan.load(asked, std::clamp<int64_t>(context.value_or(longest), 1, longest), 1, false), what);
}

StoredType stored_type(const std::string& tensor, nb::dlpack::dtype type) {
  const bool is_float = type.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Float) && type.lanes == 1;
  if (is_float && type.bits == 32) return StoredType::float32;
  if (is_float && type.bits == 16) return StoredType::float16;
  if (type.code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat) && type.bits == 16 && type.lanes == 1) return StoredType::bfloat16;
  fail("tensor '", tensor, "': weights are read from float32, float16 and bfloat16");
}

// Tensors that Python lends.
struct Lent {
  std::vector<Stored> arrays;
  std::vector<MemorySource::Item> items;

  explicit Lent(const nb::dict& tensors) {
    for (auto [key, value] : tensors) {
      const auto name = nb::cast<std::string>(key);
      Stored array;
      check(nb::try_cast(value, array, false), "tensor '", name, "': is no contiguous array in this machine's memory");
      MemorySource::Item item{name, stored_type(name, array.dtype()), {}, {static_cast<const std::byte*>(array.data()), array.nbytes()}};
      for (size_t i = 0; i < array.ndim(); ++i) item.shape.push_back(static_cast<int64_t>(array.shape(i)));
      items.push_back(std::move(item));
      arrays.push_back(std::move(array));
    }
  }
};

LoadedModel load_model(const Checkpoint& checkpoint, Device& device, const std::optional<std::string>& weights,
                       const std::optional<std::string>& activations, const std::optional<std::string>& cache, const nb::object& progress) {
  const Precision asked = precision(weights, activations, cache);
  const nb::gil_scoped_release release;
  return tessera::load_model(checkpoint, device, asked, [&](int64_t done, int64_t total) { report(progress, done, total); });
}

LoadedModel make_model(const std::string& architecture, const std::string& config, const nb::dict& tensors, Device& device,
                       const std::optional<std::string>& weights, const std::optional<std::string>& activations,
                       const std::optional<std::string>& cache, const nb::object& progress) {
  const Precision asked = precision(weights, activations, cache);
  const Lent lent(tensors);
  const nb::gil_scoped_release release;
  const JsonDocument document = parse_json(config, "config");
  MemorySource source(lent.items);
  LoadedModel loaded;
  loaded.options = resolve(asked, source.tensors());
  Weights taken(source, device, loaded.options, [&](int64_t done, int64_t total) { report(progress, done, total); });
  loaded.model = tessera::make_model(architecture, ConfigReader(document.root(), "config"), taken);
  loaded.num_parameters = taken.num_parameters();
  loaded.notes = taken.notes();
  return loaded;
}

void bind_devices(nb::module_& m) {
  nb::class_<Limits>(m, "Limits", "What Batches a device takes.")
      .def_ro("page_tokens", &Limits::page_tokens)
      .def_ro("chunk_alignment", &Limits::chunk_alignment)
      .def_ro("max_chunk", &Limits::max_chunk)
      .def_ro("max_rows", &Limits::max_rows)
      .def_ro("max_logit_rows", &Limits::max_logit_rows)
      .def_ro("free_rows", &Limits::free_rows)
      .def_ro("decode_tokens", &Limits::decode_tokens);
  nb::class_<Device>(m, "Device", "Where models run. One forward at a time: others wait.")
      .def_prop_ro("name", &Device::name)
      .def_prop_ro("limits", &Device::limits)
      .def(
          "free_memory", [](Device& self) { return self.free_memory().bytes; },
          "Bytes that caches may take: what is free, less what a forward takes for itself.")
      .def("__repr__", [](const Device& self) { return "<tessera.Device " + self.name() + ">"; });
  nb::class_<cpu::CpuDevice, Device>(m, "CpuDevice", "The processor of this machine.")
      .def_prop_ro("threads", &cpu::CpuDevice::threads)
      .def_prop_ro(
          "isa", [](const cpu::CpuDevice& self) { return std::string(cpu::name(self.isa())); },
          "The instruction set: plain, avx2 or avx512.")
      .def_prop_ro(
          "twin",
          [](const cpu::CpuDevice& self) { return self.twin() == cpu::Twin::card ? std::optional<std::string>("card") : std::nullopt; },
          "\"card\": it rounds as the n150 does; or None.");
  nb::class_<ttnn::TtnnDevice, Device>(m, "TtnnDevice", "A Tenstorrent n150.");
  set_open("n150", open_n150);
  m.def(
      "open_device", open_device, "name"_a, nb::kw_only(), "threads"_a = 0, "device_id"_a = 0, "module"_a = nb::none(), "trace"_a = false,
      "timeout"_a = kDeviceTimeout, "notice"_a = nb::none(), "twin"_a = nb::none(),
      "The device \"cpu\", or \"n150\", which needs the Python module `module` and a card. threads: 0 takes all that the process may use. "
      "module: "
      "\"ttnn\", or what\n"
      "TESSERA_TTNN_MODULE names in its place. trace: decodes are recorded and replayed, for which the n150 keeps 128 MB. timeout: after "
      "so many\n"
      "seconds TTNN gives up a call that the card does not answer, a DeviceError, as is every later use; 0: never. TTNN takes it from\n"
      "TT_METAL_OPERATION_TIMEOUT_SECONDS, which is set unless it is, for all cards of the process, when it is first used. notice: called\n"
      "with a text that people should see, which otherwise goes to standard error. twin: \"card\": the cpu rounds as the n150 does. "
      "Raises\n"
      "RuntimeError.");
  m.def("open_device", use_card, "card"_a, nb::kw_only(), "module"_a = nb::none(), "trace"_a = false, "notice"_a = nb::none(),
        "An n150 that is an open device of `module` already, and stays open. trace: it was opened with a trace_region_size.");
}

void bind_models(nb::module_& m) {
  nb::class_<ArchitectureName>(m, "Architecture", "A kind of checkpoint that can be loaded, as config.json names it.")
      .def_ro("name", &ArchitectureName::name)
      .def_ro("model_type", &ArchitectureName::model_type)
      .def_ro("model", &ArchitectureName::model, "The first name that the same C++ model goes by.");
  m.def("architectures", &architectures);
  nb::class_<CacheLayer>(m, "CacheLayer")
      .def_ro("num_kv_heads", &CacheLayer::num_kv_heads)
      .def_ro("head_dim", &CacheLayer::head_dim)
      .def_ro("window", &CacheLayer::window, "Keys that a query sees, its own included; None: all before it.");
  nb::class_<CacheSpec>(m, "CacheSpec", "What a model asks of its cache.").def_ro("layers", &CacheSpec::layers);
  nb::class_<ModelSpec>(m, "ModelSpec", "What a model is to those who feed it.")
      .def_ro("vocab_size", &ModelSpec::vocab_size)
      .def_ro("max_position_embeddings", &ModelSpec::max_position_embeddings, "The longest context, in tokens.")
      .def_ro("tied", &ModelSpec::tied, "The head is the embedding.")
      .def_ro("cache", &ModelSpec::cache)
      .def_ro("recompute_after", &ModelSpec::recompute_after, "A sequence that grows past this length is computed anew.");
  nb::class_<Model>(m, "Model", "A model is its weights; a conversation is its Sequence.").def_prop_ro("spec", &Model::spec);
  nb::class_<ModelOptions>(m, "ModelOptions", "Data types of one loaded model.")
      .def_prop_ro("weights", [](const ModelOptions& self) { return text(self.weights); })
      .def_prop_ro("activations", [](const ModelOptions& self) { return text(self.activations); })
      .def_prop_ro("cache", [](const ModelOptions& self) { return text(self.cache); })
      .def_prop_ro("logits", [](const ModelOptions& self) { return text(self.logits); });
  nb::class_<SpecialTokens>(m, "SpecialTokens")
      .def_ro("eos", &SpecialTokens::eos)
      .def_ro("bos", &SpecialTokens::bos)
      .def_ro("pad", &SpecialTokens::pad);
  nb::class_<ProcessorParams>(m, "ProcessorParams",
                              "Fields of transformers' GenerationConfig that change logits, and what they are when unset.")
      .def(nb::init<>())
      .def_rw("sequence_bias", &ProcessorParams::sequence_bias, "[([id, ...], bias), ...].")
      .def_rw("encoder_repetition_penalty", &ProcessorParams::encoder_repetition_penalty)
      .def_rw("no_repeat_ngram_size", &ProcessorParams::no_repeat_ngram_size)
      .def_rw("encoder_no_repeat_ngram_size", &ProcessorParams::encoder_no_repeat_ngram_size)
      .def_rw("bad_words_ids", &ProcessorParams::bad_words_ids)
      .def_rw("min_length", &ProcessorParams::min_length)
      .def_rw("forced_bos_token_id", &ProcessorParams::forced_bos_token_id)
      .def_rw("forced_eos_token_id", &ProcessorParams::forced_eos_token_id)
      .def_rw("remove_invalid_values", &ProcessorParams::remove_invalid_values)
      .def_rw("exponential_decay_length_penalty", &ProcessorParams::exponential_decay_length_penalty)
      .def_rw("suppress_tokens", &ProcessorParams::suppress_tokens)
      .def_rw("begin_suppress_tokens", &ProcessorParams::begin_suppress_tokens)
      .def_rw("top_h", &ProcessorParams::top_h)
      .def_rw("typical_p", &ProcessorParams::typical_p)
      .def_rw("epsilon_cutoff", &ProcessorParams::epsilon_cutoff)
      .def_rw("eta_cutoff", &ProcessorParams::eta_cutoff)
      .def_rw("renormalize_logits", &ProcessorParams::renormalize_logits);
  nb::class_<GenerationConfig>(m, "GenerationConfig", "How a checkpoint wants to be sampled.")
      .def_ro("tokens", &GenerationConfig::tokens)
      .def_ro("do_sample", &GenerationConfig::do_sample)
      .def_ro("temperature", &GenerationConfig::temperature)
      .def_ro("top_k", &GenerationConfig::top_k)
      .def_ro("top_p", &GenerationConfig::top_p)
      .def_ro("min_p", &GenerationConfig::min_p)
      .def_ro("repetition_penalty", &GenerationConfig::repetition_penalty)
      .def_ro("min_new_tokens", &GenerationConfig::min_new_tokens)
      .def_ro("processors", &GenerationConfig::processors)
      .def_ro("max_new_tokens", &GenerationConfig::max_new_tokens)
      .def_ro("max_length", &GenerationConfig::max_length)
      .def_ro("max_time", &GenerationConfig::max_time)
      .def_ro("stop_strings", &GenerationConfig::stop_strings)
      .def_ro("unsupported", &GenerationConfig::unsupported, "Fields that would change what is generated, each with the reason.")
      .def_ro("notes", &GenerationConfig::notes, "Odd but harmless: for the user to see.");
  nb::class_<LoadedModel>(m, "LoadedModel")
      .def_prop_ro(
          "model", [](LoadedModel& self) -> Model& { return *self.model; }, nb::rv_policy::reference_internal)
      .def_ro("options", &LoadedModel::options)
      .def_ro("generation", &LoadedModel::generation, "Of a checkpoint; the defaults for make_model.")
      .def_ro("num_parameters", &LoadedModel::num_parameters, "Of what was loaded: without a vision tower; a tied embedding's count once.")
      .def_ro("notes", &LoadedModel::notes, "Odd but harmless: for the user to see.");
}

}  // namespace

void bind_loading(nb::module_& m) {
  bind_devices(m);
  nb::class_<Checkpoint>(m, "Checkpoint", "A checkpoint's directory, as Hugging Face writes it.")
      .def_static("open", &Checkpoint::open, "name_or_directory"_a, "revision"_a = nb::none(), nb::call_guard<nb::gil_scoped_release>(),
                  "A directory, or a Hugging Face id that the local cache holds. Raises FileError.")
      .def_prop_ro("directory", [](const Checkpoint& self) { return self.directory().string(); })
      .def_prop_ro("architecture", &Checkpoint::architecture)
      .def_prop_ro("model_type", &Checkpoint::model_type)
      .def(
          "tokenizer", [](const Checkpoint& self) { return self.tokenizer().string(); }, "The path of tokenizer.json. Raises FileError.")
      .def("chat_template", [](const Checkpoint& self) -> std::optional<std::string> {
        const ChatFiles files = self.chat_files(Checkpoint::Tools::absent);
        return files.chat_template ? std::optional(files.chat_template->text) : std::nullopt;
      });
  bind_models(m);
  m.def(
      "expect_fits",
      [](const std::string& device, const Checkpoint& checkpoint, std::optional<int64_t> context, const std::optional<std::string>& weights,
         const std::optional<std::string>& activations, const std::optional<std::string>& cache) {
        expect_fits(device, describe_config(checkpoint), checkpoint.directory().string(), context, precision(weights, activations, cache));
      },
      "device"_a, "checkpoint"_a, "context"_a.none(), nb::kw_only(), "weights"_a = nb::none(), "activations"_a = nb::none(),
      "cache"_a = nb::none(),
      "Raises ResourceError, in the words of `tessera plan`, when the kind of device does not hold the model with one context of so many\n"
      "tokens, or of as many as the model takes.");
  m.def(
      "expect_fits",
      [](const std::string& device, const std::string& architecture, const std::string& config, std::optional<int64_t> context,
         const std::optional<std::string>& weights, const std::optional<std::string>& activations,
         const std::optional<std::string>& cache) {
        const JsonDocument document = parse_json(config, "config");
        expect_fits(device, describe_config(architecture, ConfigReader(document.root(), "config")), architecture, context,
                    precision(weights, activations, cache));
      },
      "device"_a, "architecture"_a, "config"_a, "context"_a.none(), nb::kw_only(), "weights"_a = nb::none(), "activations"_a = nb::none(),
      "cache"_a = nb::none());
  m.def(
      "largest_cache",
      [](Device& device, const CacheSpec& spec, const std::string& dtype, int64_t context) {
        const CacheOptions made = largest_cache(device_kind(device.name()), device.free_memory(), spec, parse_data_type(dtype), context);
        return std::pair(made.max_tokens, made.max_sequences);
      },
      "device"_a, "spec"_a, "dtype"_a, "context"_a,
      "(max_tokens, max_sequences) of a Cache for as many tokens and sequences of up to `context` tokens as the device's memory holds. "
      "Raises ResourceError.");
  m.def("load_model", load_model, "checkpoint"_a, "device"_a, nb::kw_only(), "weights"_a = nb::none(), "activations"_a = nb::none(),
        "cache"_a = nb::none(), "progress"_a = nb::none(), nb::keep_alive<0, 2>(),
        "A checkpoint's model with its weights packed on `device`. Data types are \"float32\", \"bfloat16\", \"bfloat8_b\" and, for "
        "weights, \"bfloat4_b\".\n"
        "None: weights as stored, bfloat16 activations, a cache of the activations' type. progress(done_bytes, total_bytes) is called "
        "between tensors.");
  m.def(
      "load_model",
      [](const std::string& name, Device& device, const std::optional<std::string>& weights, const std::optional<std::string>& activations,
         const std::optional<std::string>& cache,
         const nb::object& progress) { return load_model(Checkpoint::open(name), device, weights, activations, cache, progress); },
      "name_or_directory"_a, "device"_a, nb::kw_only(), "weights"_a = nb::none(), "activations"_a = nb::none(), "cache"_a = nb::none(),
      "progress"_a = nb::none(), nb::keep_alive<0, 2>());
  m.def(
      "make_model", make_model, "architecture"_a, "config"_a, "tensors"_a, "device"_a, nb::kw_only(), "weights"_a = nb::none(),
      "activations"_a = nb::none(), "cache"_a = nb::none(), "progress"_a = nb::none(), nb::keep_alive<0, 4>(),
      nb::sig("def make_model(architecture: str, config: str, tensors: dict[str, object], device: Device, *, weights: str | None = None, "
              "activations: str | None = None, cache: str | None = None, progress: collections.abc.Callable[[int, int], object] | None = "
              "None) -> LoadedModel"),
      "The same from tensors in memory: contiguous NumPy or torch arrays by their checkpoint names, borrowed for the call and not copied.\n"
      "`architecture` as in config.json's architectures, `config` is its JSON text.");
}

}  // namespace tessera::python

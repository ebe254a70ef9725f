#include "cli/session.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>

#include "cli/memory_plan.h"
#include "cli/messages.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "core/error.h"
#include "core/packed_file.h"
#include "models/description.h"

namespace tessera {
namespace {

// Bytes of keys and values that one more token takes in the layers that keep all of them.
int64_t bytes_a_token(const CacheSpec& spec, DataType dtype) {
  int64_t values = 0;
  for (const CacheLayer& layer : spec.layers)
    if (!layer.window) values += 2 * layer.num_kv_heads * layer.head_dim;
  return dtype == DataType::float32 ? 4 * values : dtype == DataType::bfloat16 ? 2 * values : values + values / 16;
}

// Otherwise the system would end the process in the middle of loading.
void expect_weights_fit(const Checkpoint& checkpoint, const ModelDescription& model, const Precision& precision) {
  const ModelOptions options = resolve(precision, model.tensors);
  size_t needed = 0;
  for (ModelDescription::Weight weight : model.weights) {
    weight.spec.options = options;
    needed += cpu::CpuDevice::weight_bytes(weight.spec, weight.exact);
  }
  const int64_t free = available_memory();
  check<ResourceError>(needed <= static_cast<size_t>(free), checkpoint.directory().string(), ": the weights need ", needed >> 20, " MB as ",
                       options.weights, " and ", free >> 20, " MB of memory are free; take a smaller type with --weights");
}

OpenDevice& n150_opener() {
  static OpenDevice open;
  return open;
}

// The context that was asked for, or else the longest that the card holds. Throws ResourceError in plan's words.
int64_t context_on_card(const ModelDescription& model, const ModelFlags& flags, int64_t sequences) {
  const auto card = machine(flags.device, 0);
  const ModelOptions types = resolve(flags.precision, model.tensors);
  Load load{types.weights, types.activations, types.cache, flags.context, sequences, flags.trace == 1};
  if (load.context == 0) load.context = std::max(longest_context(*card, model, load), card->limits().page_tokens);
  expect_fits(*card, model, load, flags.model);
  return load.context;
}

CLI::Option* add_data_type(CLI::App& command, const std::string& flag, std::optional<DataType>& target, const std::string& help) {
  return command.add_option_function<std::string>(
                    flag, [&target](const std::string& text) { target = parse_data_type(text); }, help)
      ->type_name("TYPE");
}

}  // namespace

std::optional<int64_t> kernel_bytes(const char* path, std::string_view field) {
  std::ifstream file(path);
  for (std::string key; file >> key; file.ignore(1000, '\n')) {
    int64_t kilobytes = 0;
    if (key == field && file >> kilobytes) return kilobytes * 1024;
  }
  return std::nullopt;
}

int64_t available_memory() {
  return kernel_bytes("/proc/meminfo", "MemAvailable:").value_or(::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE));
}

void add_model_flags(CLI::App& command, ModelFlags& flags) {
  command.option_defaults()->group("Model");
  command.add_option("-m,--model", flags.model, "A checkpoint's directory, or a Hugging Face id that is in the local cache")
      ->required()
      ->type_name("MODEL");
  command.add_option("--device", flags.device, "Where to run: cpu, or n150 with the Python package's command")
      ->type_name("NAME")
      ->capture_default_str();
  command.add_option("--device-id", flags.device_id, "Which of several cards; the first, 0, if not given")->check(CLI::Range(0, 255));
  command
      .add_option("--device-timeout", flags.device_timeout,
                  "Seconds that a card's call may take before the card counts as hung; 0: for ever")
      ->type_name("SECONDS")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  command.add_option("--trace", flags.trace, "1: the n150's decodes are recorded and replayed")->check(CLI::Range(0, 1));
  command.add_option("--twin", flags.twin, "card: the cpu rounds as the n150 does")->type_name("NAME");
  command.add_option("-t,--threads", flags.threads, "Threads; all processors if not given")->check(CLI::Range(1, 1024));
  add_precision_flags(command, "--", "", flags.precision);
  command.add_option("-c,--ctx-size", flags.context, "The longest context in tokens; the model's own if not given")
      ->check(CLI::Range(int64_t{1}, kLongestContext));
  command
      .add_option("-b,--batch-size", flags.batch,
                  "The longest piece of a prompt in one forward, in tokens; what the device takes if not given")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command.option_defaults()->group("Options");
}

void add_precision_flags(CLI::App& command, const std::string& prefix, const std::string& suffix, Precision& precision) {
  const auto unset = [&](const char* otherwise) { return suffix.empty() ? otherwise : "; side a's if not given"; };
  add_data_type(command, prefix + "weights" + suffix, precision.weights,
                std::string("float32, bfloat16, bfloat8_b or bfloat4_b") + unset("; as stored if not given"));
  add_data_type(command, prefix + "activations" + suffix, precision.activations,
                std::string("float32 or bfloat16") + unset(" (the default)"));
  add_data_type(command, prefix + "cache" + suffix, precision.cache,
                std::string("float32, bfloat16 or bfloat8_b") + unset("; the activations' type if not given"));
}

void offer_n150(OpenDevice open) { n150_opener() = std::move(open); }

bool has_n150() { return static_cast<bool>(n150_opener()); }

std::unique_ptr<Device> open_device(const ModelFlags& flags) {
  if (flags.device == "n150") {
    check(!flags.twin, "--twin ", flags.twin.value_or(""), ": is of the cpu device; leave it out with --device n150");
    check(has_n150(), "--device n150: this program has the cpu device only; the tessera command of the Python package has the n150");
    SignalWatch::second_tells("the card was being opened; if it hangs and no other process has it, reset it with tt-smi -r");
    std::unique_ptr<Device> device = n150_opener()(flags);
    SignalWatch::second_tells("the card was left at its work; reset it with tt-smi -r before it is used again");
    return device;
  }
  check(flags.device == "cpu", "--device ", flags.device, ": is not a device; choose cpu or n150");
  check(flags.trace == 0, "--trace ", flags.trace, ": only the n150 records and replays its decodes");
  check(flags.device_id == 0, "--device-id ", flags.device_id, ": the cpu is one device, 0");
  cpu::CpuOptions options;
  if (flags.threads > 0) options.threads = flags.threads;
  options.twin = cpu::parse_twin(flags.twin);
  return std::make_unique<cpu::CpuDevice>(options);
}

Session::Session(const ModelFlags& flags, int64_t sequences, std::shared_ptr<Device> device)
    : Session(Checkpoint::open(flags.model), flags, sequences, std::move(device)) {}

Session::Session(Checkpoint checkpoint, const ModelFlags& flags, int64_t sequences, std::shared_ptr<Device> device)
    : checkpoint_(std::move(checkpoint)),
      device_(device ? std::move(device) : open_device(flags)),
      threads_(flags.threads > 0 ? flags.threads : cpu::available_threads()) {
  const auto start = std::chrono::steady_clock::now();
  description_ = describe_model(checkpoint_);
  const bool on_card = device_->name() == "n150";
  if (on_card)
    context_ = context_on_card(description_, flags, sequences);
  else
    expect_weights_fit(checkpoint_, description_, flags.precision);
  {
    ProgressBar bar("loading");
    loaded_ = load_model(checkpoint_, description_, *device_, flags.precision, bar.watched());
  }
  description_.source.reset();  // all is packed
  for (const std::string& note : loaded_.notes) tell("note: " + note);
  const int64_t longest = loaded_.model->spec().max_position_embeddings;
  check(flags.context <= longest, "-c ", flags.context, ": the model's context ends at ", longest, " tokens");
  const int64_t token_bytes = bytes_a_token(loaded_.model->spec().cache, loaded_.options.cache);
  const int64_t fitting = on_card            ? context_
                          : token_bytes == 0 ? longest
                                             : std::max<int64_t>(available_memory() / 10 * 9 / (token_bytes * sequences), 1);
  check<ResourceError>(flags.context <= fitting, "-c ", flags.context, ": memory holds a context of ", fitting,
                       " tokens; shorten it or use --cache bfloat8_b");
  context_ = flags.context > 0 ? flags.context : std::min({longest, fitting, kLongestContext});
  if (context_ < longest && flags.context == 0)
    tell(message("note: the model's context is ", longest, " tokens; memory is for ", context_));
  cache_ = std::make_unique<Cache>(*device_, loaded_.model->spec().cache,
                                   cache_options(loaded_.options.cache, context_, sequences, device_->limits()));
  generator_ = std::make_unique<Generator>(*loaded_.model, *device_, *cache_, flags.batch);
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const Tokenizer& Session::tokenizer() {
  if (!tokenizer_) tokenizer_.emplace(Tokenizer::load(checkpoint_.tokenizer().string(), packed_folder()));
  return *tokenizer_;
}

}  // namespace tessera

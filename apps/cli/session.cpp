#include "cli/session.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "cli/terminal.h"
#include "core/error.h"
#include "core/packed_file.h"
#include "kinds/memory_plan.h"

namespace tessera {
namespace {

CLI::Option* add_data_type(CLI::App& command, const std::string& flag, std::optional<DataType>& target, const std::string& help) {
  return command.add_option_function<std::string>(
                    flag, [&target](const std::string& text) { target = parse_data_type(text); }, help)
      ->type_name("TYPE");
}

}  // namespace

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
  command.add_option("-t,--threads", flags.threads, "Threads; as many as the process may use if not given")->check(CLI::Range(1, 1024));
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

std::unique_ptr<Device> open_device(const ModelFlags& flags) {
  const bool is_card = device_kind(flags.device).is_card;
  if (is_card) SignalWatch::second_tells("the card was being opened; if it hangs and no other process has it, reset it with tt-smi -r");
  const auto lost = [](const std::string& why) {
    tell(why);
    std::_Exit(kDeviceLost);
  };
  std::unique_ptr<Device> device = open_device(flags.device, {.threads = flags.threads,
                                                              .twin = flags.twin,
                                                              .device_id = flags.device_id,
                                                              .trace = flags.trace == 1,
                                                              .timeout = flags.device_timeout,
                                                              .hung = lost,
                                                              .notice = tell});
  if (is_card) SignalWatch::second_tells("the card was left at its work; reset it with tt-smi -r before it is used again");
  return device;
}

Session::Session(const ModelFlags& flags, int64_t sequences, std::shared_ptr<Device> device)
    : Session(Checkpoint::open(flags.model), std::nullopt, flags, sequences, std::move(device)) {}

Session::Session(Checkpoint checkpoint, std::optional<ModelDescription> description, const ModelFlags& flags, int64_t sequences,
                 std::shared_ptr<Device> device)
    : checkpoint_(std::move(checkpoint)),
      device_(device ? std::move(device) : open_device(flags)),
      threads_(flags.threads > 0 ? flags.threads : available_threads()) {
  const auto start = std::chrono::steady_clock::now();
  description_ = description ? std::move(*description) : describe_model(checkpoint_);
  const MemoryPlan plan{device_kind(device_->name()), description_};
  const Load load = plan.load(flags.precision, flags.context, sequences, flags.trace == 1);
  plan.expect_fits(load, flags.model);
  context_ = load.context;
  {
    ProgressBar bar("loading");
    loaded_ = load_model(checkpoint_, description_, *device_, flags.precision, bar.watched());
  }
  description_.source.reset();  // all is packed
  for (const std::string& note : loaded_.notes) tell("note: " + note);
  const int64_t longest = description_.spec.max_position_embeddings;
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

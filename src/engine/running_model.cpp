#include "engine/running_model.h"

#include <algorithm>
#include <chrono>

#include "core/digest.h"
#include "core/error.h"
#include "core/kept_file.h"
#include "kinds/memory_plan.h"

namespace tessera {
namespace {

// Before anything is loaded.
void expect_supported(const GenerationConfig& config, const LoadWatch& watch) {
  for (const std::string& note : config.notes) watch.note(note);
  if (config.unsupported.empty()) return;
  std::string fields;
  for (const std::string& field : config.unsupported) fields += (fields.empty() ? "" : "; ") + field;
  fail<FileError>(fields, ". ", watch.without_generation_config, " goes on without that file's settings");
}

}  // namespace

Checkpoint open_checkpoint(const LoadOptions& options) {
  Checkpoint checkpoint = Checkpoint::open(options.model, options.revision);
  if (options.generation_config) checkpoint.use_generation_config(*options.generation_config);
  return checkpoint;
}

RunningModel::Size RunningModel::alike(const LoadOptions& options, int64_t sequences) {
  return [&options, sequences](const MemoryPlan& plan) {
    const Load load = plan.load(options.precision, options.context, sequences, options.trace == 1);
    plan.expect_fits(load, options.model);
    return Sizes{load, cache_options(load.cache, load.context, sequences, plan.kind.limits)};
  };
}

RunningModel::Size RunningModel::sharing(const LoadOptions& options, int64_t sequences, size_t bytes) {
  return [&options, sequences, bytes](const MemoryPlan& plan) {
    Load load = plan.load(options.precision, options.context, 1, options.trace == 1);
    plan.expect_fits(load, options.model);
    load.sequences = sequences;
    if (load.sequences == 0) {
      load.sequences = std::min({kMaxNumSeqs, plan.kind.limits.max_logit_rows, plan.kind.limits.free_rows});
      load.sequences = std::max<int64_t>(plan.most_sharing(load, bytes), 1);
    }
    return Sizes{load, plan.shared_cache(load, bytes)};
  };
}

RunningModel::RunningModel(Checkpoint checkpoint, std::optional<ModelDescription> description, std::shared_ptr<Device> device,
                           const LoadOptions& options, const Size& size, const LoadWatch& watch)
    : checkpoint_(std::move(checkpoint)),
      device_(std::move(device)),
      threads_(options.threads > 0 ? options.threads : available_threads()) {
  const auto start = std::chrono::steady_clock::now();
  description_ = description ? std::move(*description) : describe_model(checkpoint_);
  if (options.generation_config) expect_supported(description_.generation, watch);
  const Sizes sizes = size(MemoryPlan{device_kind(device_->name()), description_});
  context_ = sizes.load.context;
  loaded_ = load_model(checkpoint_, description_, *device_, options.precision, watch.progress);
  // The version stands for its kernels: another one's may round otherwise.
  pages_identity_ = {{"version", TESSERA_VERSION},
                     {"checkpoint", digest(description_.source->identity() + checkpoint_.config_digest())},
                     {"weights", message(loaded_.options.weights)},
                     {"activations", message(loaded_.options.activations)}};
  description_.source.reset();  // all is packed
  for (const std::string& note : loaded_.notes) watch.note(note);
  const int64_t longest = description_.spec.max_position_embeddings;
  if (context_ < longest && options.context == 0)
    watch.note(message("the model's context is ", longest, " tokens; memory is for ", context_));
  cache_ = std::make_unique<Cache>(*device_, loaded_.model->spec().cache, sizes.cache);
  generator_ = std::make_unique<Generator>(*loaded_.model, *device_, *cache_, options.batch);
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const Tokenizer& RunningModel::tokenizer() {
  if (!tokenizer_) tokenizer_.emplace(Tokenizer::load(checkpoint_.tokenizer().string(), kept_folder(), checkpoint_.model_type()));
  return *tokenizer_;
}

}  // namespace tessera

#include "cli/session.h"

#include <algorithm>
#include <cstdlib>

#include "cli/report.h"
#include "cli/terminal.h"
#include "core/error.h"

namespace tessera {
namespace {

void expect_same_tokens(const Tokenizer& draft, const std::string& draft_name, const Tokenizer& own, const std::string& own_name) {
  for (TokenId id = 0; id < std::max(draft.vocab_size(), own.vocab_size()); ++id)
    check(draft.id_to_token(id) == own.id_to_token(id), "--draft ", draft_name, ": token ", id, " is \"", draft.id_to_token(id),
          "\" there and \"", own.id_to_token(id), "\" in ", own_name, "; a draft model must have the same tokenizer");
}

}  // namespace

std::unique_ptr<Device> open_device(const ModelFlags& flags, std::function<void(const std::string& why)> lost) {
  const bool is_card = device_kind(flags.device).is_card;
  if (is_card) SignalWatch::second_tells("the card was being opened; if it hangs and no other process has it, reset it with tt-smi -r");
  if (!lost)
    lost = [](const std::string& why) {
      tell(why);
      std::_Exit(kDeviceLost);
    };
  std::unique_ptr<Device> device = open_device(flags.device, {.threads = flags.threads,
                                                              .twin = flags.twin,
                                                              .device_id = flags.device_id,
                                                              .trace = flags.trace == 1,
                                                              .timeout = flags.device_timeout,
                                                              .hung = std::move(lost),
                                                              .notice = tell});
  if (is_card) SignalWatch::second_tells("the card was left at its work; reset it with tt-smi -r before it is used again");
  return device;
}

std::optional<SavedSequence> open_saved(const std::string& flag, const std::string& path, const ModelFlags& model) {
  check(!device_kind(model.device).is_card, flag, " ", path, ": ", model.device, ": its cache cannot be saved; it can on the cpu");
  const OutputFile writable(path);
  return is_there(path) ? std::optional<SavedSequence>(path) : std::nullopt;
}

Session::Session(const ModelFlags& flags, int64_t sequences, std::shared_ptr<Device> device)
    : Session(open_checkpoint(flags), std::nullopt, flags, sequences, std::move(device)) {}

namespace {

LoadWatch watch_of(ProgressBar& bar) {
  return {.note = [](const std::string& note) { tell("note: " + note); },
          .progress = bar.watched(),
          .without_generation_config = "--generation-config none"};
}

// What the flags, or else the memory, say of the pool.
RunningModel::Size shared(const ModelFlags& flags, const CacheFlags& cache) {
  return [&cache,
          size = RunningModel::sharing(flags, cache.max_num_seqs, static_cast<size_t>(cache.gigabytes * 1e9))](const MemoryPlan& plan) {
    RunningModel::Sizes sizes = size(plan);
    sizes.cache.prefix_cache = !cache.no_prefix_cache;
    return sizes;
  };
}

}  // namespace

Session::Session(Checkpoint checkpoint, std::optional<ModelDescription> description, const ModelFlags& flags, int64_t sequences,
                 std::shared_ptr<Device> device)
    : RunningModel(std::move(checkpoint), std::move(description), device ? std::move(device) : open_device(flags), flags,
                   alike(flags, sequences), watch_of(*std::make_unique<ProgressBar>("loading"))) {}

Session::Session(const ModelFlags& flags, const CacheFlags& cache, std::shared_ptr<Device> device)
    : RunningModel(open_checkpoint(flags), std::nullopt, device ? std::move(device) : open_device(flags), flags, shared(flags, cache),
                   watch_of(*std::make_unique<ProgressBar>("loading"))) {
  const DeviceKind& kind = device_kind(this->device()->name());
  const CacheOptions& pool = this->cache().options();
  const std::vector<int64_t> pages = page_counts(description().spec.cache, pool, kind.limits);
  tell(message("cache: ", pool.max_tokens, " tokens in ", size_text(kind.cache_bytes(description().spec.cache, pool.dtype, pages)),
               " for up to ", pool.max_sequences, " sequences of up to ", context(), " tokens"));
}

Drafting open_drafting(const SpeculationFlags& flags, const ModelFlags& model, Session& session, const Sampler& sampler) {
  if (flags.prompt_lookup > 0) return {.drafter = std::make_unique<PromptLookup>(), .most = flags.prompt_lookup};
  if (!flags.draft) return {};
  ModelFlags draft = model;
  draft.model = *flags.draft;
  draft.revision.reset();
  draft.precision = flags.draft_precision;
  Checkpoint checkpoint = Checkpoint::open(draft.model);
  checkpoint.use_generation_config("none");
  expect_same_tokens(Tokenizer::load(checkpoint.tokenizer().string(), std::nullopt, checkpoint.model_type()), draft.model,
                     session.tokenizer(), model.model);
  ModelDescription description = describe_model(checkpoint);
  draft.context = std::min(session.context(), description.spec.max_position_embeddings);
  Drafting made{.session = std::make_unique<Session>(std::move(checkpoint), std::move(description), draft, 1, session.device()),
                .most = flags.draft_max};
  made.drafter = std::make_unique<DraftModel>(made.session->generator(), sampler, session.model().spec().vocab_size);
  return made;
}

}  // namespace tessera

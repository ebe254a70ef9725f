#include "cli/speculation_flags.h"

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "models/description.h"

namespace tessera {
namespace {

constexpr int64_t kLongestDraft = 64;

void expect_same_tokens(const Tokenizer& draft, const std::string& draft_name, const Tokenizer& own, const std::string& own_name) {
  for (TokenId id = 0; id < std::max(draft.vocab_size(), own.vocab_size()); ++id)
    check(draft.id_to_token(id) == own.id_to_token(id), "--draft ", draft_name, ": token ", id, " is \"", draft.id_to_token(id),
          "\" there and \"", own.id_to_token(id), "\" in ", own_name, "; a draft model must have the same tokenizer");
}

}  // namespace

void add_speculation_flags(CLI::App& command, SpeculationFlags& flags) {
  command.option_defaults()->group("Speculation (several tokens a forward; the output stays the same)");
  const auto range = CLI::Range(int64_t{1}, kLongestDraft);
  CLI::Option* lookup =
      command
          .add_option("--prompt-lookup,--prompt-lookup-num-tokens", flags.prompt_lookup,
                      "Guess up to so many tokens from where the last ones stood before, as when a text is edited or summarised")
          ->check(range);
  CLI::Option* draft =
      command.add_option("--draft,--model-draft", flags.draft, "A smaller model with the same tokenizer guesses: a directory or an id")
          ->excludes(lookup)
          ->type_name("MODEL");
  command.add_option("--draft-max", flags.draft_max, "The draft model guesses so many tokens at most")
      ->check(range)
      ->needs(draft)
      ->capture_default_str();
  add_precision_flags(command, "--draft-", "", flags.draft_precision);
  for (const char* flag : {"--draft-weights", "--draft-activations", "--draft-cache"}) command.get_option(flag)->needs(draft);
  command.option_defaults()->group("Options");
}

Drafting open_drafting(const SpeculationFlags& flags, const ModelFlags& model, Session& session, const Sampler& sampler) {
  if (flags.prompt_lookup > 0) return {.drafter = std::make_unique<PromptLookup>(), .most = flags.prompt_lookup};
  if (!flags.draft) return {};
  ModelFlags draft = model;
  draft.model = *flags.draft;
  draft.precision = flags.draft_precision;
  Checkpoint checkpoint = Checkpoint::open(draft.model);
  expect_same_tokens(Tokenizer::load(checkpoint.tokenizer().string()), draft.model, session.tokenizer(), model.model);
  ModelDescription description = describe_model(checkpoint);
  draft.context = std::min(session.context(), description.spec.max_position_embeddings);
  Drafting made{.session = std::make_unique<Session>(std::move(checkpoint), std::move(description), draft, 1, session.device()),
                .most = flags.draft_max};
  made.drafter = std::make_unique<DraftModel>(made.session->generator(), sampler, session.model().spec().vocab_size);
  return made;
}

}  // namespace tessera

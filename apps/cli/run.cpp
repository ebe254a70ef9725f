#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/arguments.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/forms.h"
#include "cli/given_text.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "core/error.h"

namespace tessera {
namespace {

// `tessera run`: one prompt, raw or as one turn of a chat, streamed.
struct RunOptions {
  ModelFlags model;
  SamplingFlags sampling;
  SpeculationFlags speculation;
  StreamOptions stream;
  PromptFlags prompt;
  ChatFlags chat_flags;
  FormFlags form;
  std::optional<std::string> prompt_cache;
  bool chat = false;
};

// What the file's text and the prompt have in common at their beginning need not be computed. `sequence` is the prompt's.
void reuse(const SavedSequence& saved, const std::string& path, Session& session, Sequence& sequence) {
  const std::vector<TokenId> prompt = std::exchange(sequence.tokens, {});
  const auto common = std::mismatch(saved.tokens().begin(), saved.tokens().end(), prompt.begin(), prompt.end()).second - prompt.begin();
  if (common > 0) {
    const std::string why = saved.restore(*session.device(), session.cache(), sequence, session.pages_identity());
    if (!why.empty()) tell(message("note: ", path, ": its pages ", why, "; all is computed again"));
  }
  session.cache().truncate(sequence, std::min<int64_t>(common, static_cast<int64_t>(sequence.tokens.size())));
  sequence.tokens = prompt;
}

int run(const RunOptions& options) {
  const SignalWatch watch;
  const std::optional<GrammarSource> asked = form(options.form);
  std::optional<SavedSequence> saved;
  if (options.prompt_cache) {
    saved = open_saved("--prompt-cache", *options.prompt_cache, options.model);
    check<FileError>(!saved || saved->about().empty(), *options.prompt_cache, ": is a chat's session; name another file");
  }
  Session session(options.model);
  const SamplingParams params = sampling_params(options.sampling, session.generation(), session.model().spec().vocab_size);
  const auto sequence = session.cache().create();
  std::vector<TokenId> ends = session.generation().tokens.eos;
  if (options.chat) {
    Conversation conversation(session.checkpoint(), session.tokenizer(), conversation_options(options.chat_flags));
    conversation.add("user", prompt_text(options.prompt));
    sequence->tokens = conversation.ids();
    ends = conversation.end_tokens(session);
  } else {
    sequence->tokens = prompt_ids(options.prompt, session);
  }
  if (saved) reuse(*saved, *options.prompt_cache, session, *sequence);
  saved.reset();
  Sampler sampler(params, ends);
  const Drafting drafting = open_drafting(options.speculation, options.model, session, sampler);
  StreamOptions streamed = options.stream;
  if (asked) streamed.constraint = Forms(session.tokenizer(), session.model().spec().vocab_size, ends).constraint(*asked);
  const StreamResult result = stream(session, *sequence, sampler, drafting, streamed);
  if (result.cut) tell(message("note: the text was cut: the context of ", session.context(), " tokens is full"));
  print_timing(session, result, params);
  if (options.prompt_cache)
    save_sequence(*options.prompt_cache, "", *session.device(), *sequence, session.cache(), session.pages_identity(), SavedPages::all);
  SignalWatch::expect_none();
  return 0;
}

}  // namespace

void add_run(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("run", "Continue a prompt and stream the text");
  const auto options = std::make_shared<RunOptions>();
  command.callback([options, &code] { code = run(*options); });
  add_model_flags(command, options->model);
  CLI::Option_group& source = add_prompt_flags(command, options->prompt);
  source.require_option(1);
  CLI::Option* chat = command.add_flag("--chat", options->chat, "The prompt is one turn of a chat: put it into the checkpoint's template")
                          ->excludes(source.get_option("--ids-file"));
  add_chat_flags(command, options->chat_flags, chat);
  add_new_tokens_flag(command, options->stream.new_tokens, 0, "New tokens at most");
  add_texts(command, "--stop", options->stream.stop, "Stop before this text; may be given several times");
  command.add_flag("--print-ids", options->stream.print_ids, "Print the new tokens' ids instead of text");
  command.add_option("--logits", options->stream.logits_file, "Write the logits of the prompt's rows, float32 [rows, vocabulary], as .npy")
      ->type_name("FILE");
  command
      .add_option("--prompt-cache", options->prompt_cache,
                  "Keep the text's ids and cache in this file; what a later prompt has in common with it at its beginning is not computed "
                  "again. On the cpu")
      ->type_name("FILE");
  add_sampling_flags(command, options->sampling, options->model.generation_config);
  add_form_flags(command, options->form, "The new text");
  add_speculation_flags(command, options->speculation);
}

}  // namespace tessera

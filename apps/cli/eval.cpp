#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "evaluate/reference.h"

namespace tessera {
namespace {

// `tessera eval`: teacher forcing against a saved reference, making one, or two precisions of one model side by side.
struct EvalOptions {
  ModelFlags model;
  PromptFlags text;
  WindowFlags windows;
  Precision against;
  std::optional<std::string> reference, save_reference, json;
  int64_t new_tokens = 100;
  int64_t top = 64;
};

void check_context(const Session& session, size_t prompt, int64_t more) {
  check(static_cast<int64_t>(prompt) + more <= session.context(), "the prompt has ", prompt, " tokens and ", more,
        " follow it; the context ends at ", session.context());
}

int save_reference(const EvalOptions& options) {
  Report report(options.json);
  OutputFile file(*options.save_reference);
  Session session(options.model);
  std::vector<TokenId> prompt = prompt_ids(options.text, session);
  check_context(session, prompt.size(), options.new_tokens);
  ProgressBar bar("reference");
  Reference reference = make_reference(session.generator(), std::move(prompt), options.new_tokens, session.generation().tokens.eos,
                                       static_cast<size_t>(options.top), bar.watched());
  const ModelOptions& types = session.options();
  reference.made_by = message("tessera " TESSERA_VERSION ", ", options.model.model, ", weights ", types.weights, ", activations ",
                              types.activations, ", cache ", types.cache);
  write_reference(file, reference);
  const auto made = static_cast<int64_t>(reference.tokens.size());
  if (made < options.new_tokens)
    report.print(message("Reference generation stopped early (requested ", options.new_tokens, ", got ", made, ").\n"));
  report.print(message("saved ", made, " tokens after a prompt of ", reference.prompt.size(), " to ", *options.save_reference, '\n'));
  report.set({{"command", "eval"},
              {"model", options.model.model},
              {"precision", precision_json(types)},
              {"saved", *options.save_reference},
              {"prompt_tokens", reference.prompt.size()},
              {"new_tokens", made}});
  report.finish();
  return 0;
}

double part(int64_t count, int64_t total) { return static_cast<double>(count) / static_cast<double>(total); }

int against_reference(const EvalOptions& options) {
  Report report(options.json);
  Session session(options.model);
  const Reference reference = read_reference(*options.reference, session.model().spec().vocab_size);
  check_context(session, reference.prompt.size(), static_cast<int64_t>(reference.tokens.size()));
  ReferenceScore score;
  {
    ProgressBar bar("teacher forcing");
    score = score_reference(session.generator(), reference, session.threads(), bar.watched());
  }
  report.set({{"command", "eval"},
              {"model", options.model.model},
              {"precision", precision_json(session.options())},
              {"reference", *options.reference},
              {"made_by", reference.made_by},
              {"prompt_tokens", reference.prompt.size()},
              {"total", score.total},
              {"distinct", score.distinct}});
  if (score.total == 0) {
    report.print("No tokens to evaluate.\n");
    report.finish();
    return 0;
  }
  const double top1 = part(score.top1, score.total), top5 = part(score.top5, score.total), choice = part(score.choice_in_top5, score.total);
  const Perplexity ppl = perplexity(score.loss);
  std::string text =
      message("reference of ", score.total, " tokens, ", score.distinct, " distinct, after a prompt of ", reference.prompt.size(), '\n');
  report.set(
      {{"top1", top1}, {"top5", top5}, {"choice_in_reference_top5", choice}, {"perplexity", ppl.value}, {"perplexity_error", ppl.error}});
  text += format("Perplexity of the reference's tokens: %.4f ± %.4f\nOur choice in the reference's top 5: %.2f%% (%.4f)\n", ppl.value,
                 ppl.error, choice * 100, choice);
  if (score.kl.count() > 0) {
    report.set({{"ties", score.ties},
                {"ties_missed", score.ties_missed},
                {"kl_mean", score.kl.mean()},
                {"kl_error", score.kl.standard_error()},
                {"kl_max", score.kl.max()}});
    text +=
        format("KL(reference || model): mean %.6f ± %.6f, max %.6f\nTies in the reference: %lld, chosen otherwise: %lld\n", score.kl.mean(),
               score.kl.standard_error(), score.kl.max(), static_cast<long long>(score.ties), static_cast<long long>(score.ties_missed));
  }
  report.print(text + format("Top-1 accuracy: %.2f%% (%.4f)\nTop-5 accuracy: %.2f%% (%.4f)\n", top1 * 100, top1, top5 * 100, top5));
  report.finish();
  return 0;
}

// The sums of a comparison, token by token.
struct Totals {
  Mean p_loss, q_loss, loss_change, kl, difference, largest_difference;
  int64_t same_best = 0, best_in_five = 0;

  void add(const ComparedToken& token) {
    p_loss.add(token.p_loss);
    q_loss.add(token.q_loss);
    loss_change.add(token.q_loss - token.p_loss);
    kl.add(token.rows.kl);
    difference.add(token.rows.mean_difference);
    largest_difference.add(token.rows.max_difference);
    same_best += token.rows.same_best;
    best_in_five += token.rows.best_in_five;
  }
};

std::string row(const char* title, const ModelOptions& types, const Perplexity& ppl) {
  return format("%-8s %-10s %-11s %-10s %.4f ± %.4f\n", title, name(types.weights).data(), name(types.activations).data(),
                name(types.cache).data(), ppl.value, ppl.error);
}

int side_by_side(const EvalOptions& options) {
  Report report(options.json);
  Session session(options.model);
  ModelFlags other_flags = options.model;
  other_flags.precision = options.against;
  other_flags.twin.reset();  // it is what the model is held against
  Session against(other_flags, 1, options.model.twin ? nullptr : session.device());
  const ScoredText text = scored_text(prompt_ids(options.text, session), options.windows, session);
  Totals totals;
  {
    ProgressBar bar("comparing");
    for (const ComparedToken& token : compare_tokens(against.generator(), session.generator(), text, session.threads(), bar.watched()))
      totals.add(token);
  }
  const int64_t scored = totals.kl.count();
  const Perplexity ours = perplexity(totals.q_loss), theirs = perplexity(totals.p_loss);
  const double same = part(totals.same_best, scored), in_five = part(totals.best_in_five, scored);
  std::string out = message("scored ", scored, " of ", text.tokens.size(), " tokens\n");
  out += "         weights    activations cache      perplexity\n" + row("model", session.options(), ours) +
         row("against", against.options(), theirs);
  out += format("log(perplexity / against)     %+.6f ± %.6f\n", totals.loss_change.mean(), totals.loss_change.standard_error());
  out +=
      format("KL(against || model)          mean %.6f ± %.6f, max %.6f\n", totals.kl.mean(), totals.kl.standard_error(), totals.kl.max());
  out += format("|logit difference|            mean %.6f, max %.6f\n", totals.difference.mean(), totals.largest_difference.max());
  out += format("Top-1 agreement: %.2f%% (%.4f)\nTop-5 agreement: %.2f%% (%.4f)\n", same * 100, same, in_five * 100, in_five);
  report.print(out);
  report.set({{"command", "eval"},
              {"model", options.model.model},
              {"precision", precision_json(session.options())},
              {"against", precision_json(against.options())},
              {"tokens", text.tokens.size()},
              {"scored", scored},
              {"windows", text.windows.size()},
              {"perplexity", ours.value},
              {"perplexity_error", ours.error},
              {"against_perplexity", theirs.value},
              {"against_perplexity_error", theirs.error},
              {"mean_nll_change", totals.loss_change.mean()},
              {"mean_nll_change_error", totals.loss_change.standard_error()},
              {"kl_mean", totals.kl.mean()},
              {"kl_error", totals.kl.standard_error()},
              {"kl_max", totals.kl.max()},
              {"logit_difference_mean", totals.difference.mean()},
              {"logit_difference_max", totals.largest_difference.max()},
              {"top1", same},
              {"top5", in_five}});
  report.finish();
  return 0;
}

int eval(const EvalOptions& options) {
  const SignalWatch watch;
  const bool against = options.against.weights || options.against.activations || options.against.cache;
  check(options.reference.has_value() + options.save_reference.has_value() + against == 1,
        "eval: give one of --reference FILE, --save-reference FILE, or --against-weights, --against-activations, --against-cache TYPE");
  check(options.text.given() != options.reference.has_value(), "eval: ",
        options.reference ? "--reference has its own prompt; leave -p, -f and --ids-file out" : "give a text by -p, -f or --ids-file");
  if (options.reference) return against_reference(options);
  return options.save_reference ? save_reference(options) : side_by_side(options);
}

}  // namespace

void add_eval(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("eval", "Compare a model's choices with a reference, or two precisions of it");
  const auto options = std::make_shared<EvalOptions>();
  command.callback([options, &code] { code = eval(*options); });
  add_model_flags(command, options->model);
  add_prompt_flags(command, options->text).require_option(0, 1);
  add_window_flags(command, options->windows);
  command.add_option("--reference", options->reference, "Teacher forcing against this saved reference")->type_name("FILE");
  command.add_option("--save-reference", options->save_reference, "Save the model's own greedy tokens after the prompt as a reference")
      ->type_name("FILE");
  command
      .add_option("-n,--new,--predict,--n-predict,--max-tokens,--max-new-tokens", options->new_tokens, "New tokens of a saved reference")
      ->transform(whole_number(1))
      ->capture_default_str();
  command.add_option("--top", options->top, "Log-probabilities kept of each token of a saved reference; 0: none")
      ->transform(whole_number(0, 1 << 20))
      ->capture_default_str();
  add_precision_flags(command, "--against-", "", options->against);
  add_json_flag(command, options->json);
}

}  // namespace tessera

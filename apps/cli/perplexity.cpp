#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <sstream>

#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"

namespace tessera {
namespace {

// `tessera perplexity`: how well a model foretells a text.
struct PerplexityOptions {
  ModelFlags model;
  PromptFlags text;
  WindowFlags windows;
  std::optional<std::string> json;
};

int perplexity(const PerplexityOptions& options) {
  const SignalWatch watch;
  Report report(options.json);
  Session session(options.model);
  const ScoredText text = scored_text(prompt_ids(options.text, session), options.windows, session);
  const auto start = std::chrono::steady_clock::now();
  Mean losses;
  {
    ProgressBar bar("scoring");
    for (const double loss : token_losses(session.generator(), text, session.threads(), bar.watched())) losses.add(loss);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Perplexity result = perplexity(losses);
  const int64_t window = text.windows.front().end;

  std::ostringstream out;
  out << "scored " << losses.count() << " of " << text.tokens.size() << " tokens in " << text.windows.size()
      << (text.windows.size() == 1 ? " window of " : " windows of ") << window << '\n';
  out.precision(4);
  out << std::fixed << "perplexity " << result.value << " ± " << result.error << '\n';
  report.print(out.str());
  report.set({{"command", "perplexity"},
              {"model", options.model.model},
              {"precision", precision_json(session.options())},
              {"tokens", text.tokens.size()},
              {"scored", losses.count()},
              {"windows", text.windows.size()},
              {"window", window},
              {"mean_nll", losses.mean()},
              {"mean_nll_error", losses.standard_error()},
              {"perplexity", result.value},
              {"perplexity_error", result.error},
              {"load_seconds", session.load_seconds()},
              {"seconds", seconds}});
  report.finish();
  std::ostringstream timing;
  timing.precision(1);
  timing << std::fixed << "load " << session.load_seconds() * 1e3 << " ms, scoring " << seconds * 1e3 << " ms, "
         << static_cast<double>(losses.count()) / seconds << " tokens/s\n";
  std::cerr << timing.str();
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("perplexity", "Measure how well a model foretells a text");
  const auto options = std::make_shared<PerplexityOptions>();
  command.callback([options, &code] { code = perplexity(*options); });
  add_model_flags(command, options->model);
  add_prompt_flags(command, options->text).require_option(1);
  add_window_flags(command, options->windows);
  add_json_flag(command, options->json);
}

}  // namespace tessera

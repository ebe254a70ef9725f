#include "cli/run.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <random>
#include <sstream>

#include "cli/npy.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "core/error.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// generation_config's values unless flags say otherwise; a flag of sampling asks for sampling.
SamplingParams sampling_params(const RunOptions& options, const GenerationConfig& config) {
  const bool asked = options.temperature || options.top_k || options.top_p || options.min_p;
  SamplingParams params;
  params.temperature = options.temperature.value_or(config.do_sample || asked ? config.temperature : 0.0);
  params.top_k = options.top_k.value_or(config.top_k);
  params.top_p = options.top_p.value_or(config.top_p);
  params.min_p = options.min_p.value_or(config.min_p);
  params.repetition_penalty = config.repetition_penalty;
  params.seed = options.seed.value_or(std::random_device()());
  return params;
}

// Prefills the prompt; gives the logits of its last token, and writes those of all its rows when asked for.
std::vector<float> prefill(const RunOptions& options, Session& session, Sequence& sequence) {
  ProgressBar bar("prompt");
  const auto progress = [&](int64_t done, int64_t total) {
    SignalWatch::expect_none();
    bar.show(done, total);
  };
  if (!options.logits_file) return session.generator().forward(sequence, progress);
  const auto rows = static_cast<int64_t>(sequence.tokens.size());
  NpyWriter file(*options.logits_file, rows, session.model().vocab_size());
  std::vector<float> last;
  Generator::Request request{&sequence, rows};
  session.generator().forward(std::span(&request, 1), [&](size_t, int64_t, std::span<const float> logits) {
    file.write_row(logits);
    last.assign(logits.begin(), logits.end());
  }, progress);
  if (request.error) std::rethrow_exception(request.error);
  file.finish();
  return last;
}

// Shows generated tokens as they come: text, or ids.
class Printer {
 public:
  Printer(Session& session, const RunOptions& options) : print_ids_(options.print_ids), stops_(options.stop) {
    if (!print_ids_ || !options.stop.empty()) detokenizer_.emplace(session.tokenizer(), DecodeOptions{.skip_special = true});
  }

  // An end token's id is shown, its text is not. false: that was the last, an end token or the one that completes a stop string.
  bool show(TokenId token, bool end) {
    if (print_ids_) write_out((first_ ? "" : " ") + std::to_string(token));
    first_ = false;
    if (detokenizer_ && !end) {
      const std::string text = stops_.push(detokenizer_->push(token));
      if (!print_ids_) write_out(text);
    }
    return !end && !stops_.found();
  }

  void finish() {
    if (detokenizer_ && !print_ids_) write_out(stops_.push(detokenizer_->flush()) + stops_.flush());
    write_out("\n");
  }

 private:
  bool print_ids_, first_ = true;
  StopStrings stops_;
  std::optional<Detokenizer> detokenizer_;
};

void print_timing(const Session& session, double first_token, size_t prompt, double prefill, int64_t decoded, double decode, const SamplingParams& params) {
  std::ostringstream line;
  line.precision(1);
  line << std::fixed << "load " << session.load_seconds() * 1e3 << " ms, first token " << first_token * 1e3 << " ms, prefill " << prompt << " tokens "
       << static_cast<double>(prompt) / prefill << " tokens/s";
  if (decoded > 0) line << ", decode " << decoded << " tokens " << static_cast<double>(decoded) / decode << " tokens/s";
  if (params.temperature > 0) line << ", seed " << params.seed;
  std::cerr << line.str() << '\n';
}

}  // namespace

void add_run(CLI::App& app, RunOptions& options) {
  CLI::App& command = *app.add_subcommand("run", "Continue a prompt and stream the text");
  add_model_flags(command, options.model);
  add_prompt_flags(command, options.prompt).require_option(1);
  command.add_option("-n,--predict", options.new_tokens, "New tokens at most; to an end token or the context's end if not given")->check(CLI::NonNegativeNumber);
  command.add_option("--temp", options.temperature, "Temperature; 0 is greedy");
  command.add_option("--top-k", options.top_k, "Sample from the k most probable tokens; 0: all");
  command.add_option("--top-p", options.top_p, "Sample from the most probable tokens that reach this probability together");
  command.add_option("--min-p", options.min_p, "Drop tokens less probable than this part of the most probable");
  command.add_option("--seed", options.seed, "Makes sampling repeatable; a random one if not given");
  command.add_option("--stop", options.stop, "Stop before this text; may be given several times")->type_name("TEXT")->take_all();
  command.add_flag("--print-ids", options.print_ids, "Print the new tokens' ids instead of text");
  command.add_option("--logits", options.logits_file, "Write the logits of the prompt's rows, float32 [rows, vocabulary], as .npy")->type_name("FILE");
}

int run(const RunOptions& options) {
  const SignalWatch watch;
  Session session(options.model);
  const GenerationConfig& config = session.generation();
  const SamplingParams params = sampling_params(options, config);
  check_sampling(params, session.model().vocab_size());
  const auto sequence = session.cache().create();
  sequence->tokens = prompt_ids(options.prompt, session);
  const size_t prompt = sequence->tokens.size();
  check(static_cast<int64_t>(prompt) <= session.context(), "the prompt has ", prompt, " tokens; the context ends at ", session.context());
  Printer printer(session, options);
  Sampler sampler(params, config.tokens.eos);

  const auto start = Clock::now();
  std::vector<float> logits = prefill(options, session, *sequence);
  const double prefill_seconds = seconds_since(start);
  double first_token = prefill_seconds;
  int64_t made = 0;
  const int64_t most = std::min(options.new_tokens.value_or(session.context()), session.context() - static_cast<int64_t>(prompt));
  while (made < most) {
    const TokenId token = sampler.sample(logits, sequence->tokens, prompt);
    if (made++ == 0) first_token = seconds_since(start);
    const bool end = std::find(config.tokens.eos.begin(), config.tokens.eos.end(), token) != config.tokens.eos.end();
    if (!printer.show(token, end) || made == most) break;
    sequence->tokens.push_back(token);
    SignalWatch::expect_none();
    logits = session.generator().forward(*sequence);
  }
  if (most > 0) printer.finish();
  print_timing(session, first_token, prompt, prefill_seconds, made - 1, seconds_since(start) - first_token, params);
  return 0;
}

}  // namespace tessera

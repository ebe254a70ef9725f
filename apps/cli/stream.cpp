#include "cli/stream.h"

#include <algorithm>
#include <iostream>
#include <sstream>

#include "cli/npy.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "core/error.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Computes the prompt; gives the logits of its last token, and writes those of all its rows when asked for.
std::vector<float> prefill(Session& session, Sequence& sequence, const StreamOptions& options) {
  ProgressBar bar("prompt");
  const auto progress = [&](int64_t done, int64_t total) {
    SignalWatch::expect_none();
    bar.show(done, total);
  };
  if (!options.logits_file) return session.generator().forward(sequence, progress);
  const auto rows = static_cast<int64_t>(sequence.tokens.size());
  NpyWriter file(*options.logits_file, rows, session.model().spec().vocab_size);
  std::vector<float> last;
  Generator::Request request{&sequence, rows};
  const auto keep = [&](size_t, int64_t, std::span<const float> logits) {
    file.write_row(logits);
    last.assign(logits.begin(), logits.end());
  };
  session.generator().forward(std::span(&request, 1), keep, progress);
  if (request.error) std::rethrow_exception(request.error);
  file.finish();
  return last;
}

// Shows generated tokens as they come: text, or ids.
class Printer {
 public:
  Printer(Session& session, const StreamOptions& options) : print_ids_(options.print_ids), stops_(options.stop) {
    const bool text_wanted = !print_ids_ || !options.stop.empty();
    if (text_wanted && options.new_tokens != 0) detokenizer_.emplace(session.tokenizer(), DecodeOptions{.skip_special = true});
  }

  // false: that was the last, an end token or the one that completes a stop string.
  bool show(TokenId token, bool end) {
    if (print_ids_) write_out(message(first_ ? "" : " ", token));
    first_ = false;
    if (detokenizer_ && !end) show_text(stops_.push(detokenizer_->push(token)));
    return !end && !stops_.found();
  }

  std::string finish() {
    if (detokenizer_) show_text(stops_.push(detokenizer_->flush()) + stops_.flush());
    write_out("\n");
    return std::move(text_);
  }

 private:
  void show_text(const std::string& text) {
    if (!print_ids_) write_out(text);
    text_ += text;
  }

  bool print_ids_, first_ = true;
  StopStrings stops_;
  std::optional<Detokenizer> detokenizer_;
  std::string text_;
};

}  // namespace

StreamResult stream(Session& session, Sequence& sequence, Sampler& sampler, const Drafting& drafting, const StreamOptions& options) {
  const auto known = static_cast<int64_t>(sequence.tokens.size());
  check(known <= session.context(), "the prompt has ", known, " tokens; the context ends at ", session.context(),
        ". Shorten it or raise -c");
  const std::vector<TokenId>& ends = session.generation().tokens.eos;
  const int64_t most = std::min(options.new_tokens.value_or(session.context()), session.context() - known);
  Printer printer(session, options);
  StreamResult result{.prompt_tokens = static_cast<size_t>(known - sequence.length())};
  const auto start = Clock::now();
  const std::vector<float> logits = prefill(session, sequence, options);
  result.prefill_seconds = seconds_since(start);
  Speculation speculation(sequence, sampler, static_cast<size_t>(known), drafting.drafter.get(), drafting.most);
  const auto show = [&](size_t from) {  // false: the answer ends among these tokens, and the sequence with it
    for (size_t i = from; i < sequence.tokens.size(); ++i) {
      const TokenId token = sequence.tokens[i];
      const bool end = !sampler.params().ignore_eos && std::find(ends.begin(), ends.end(), token) != ends.end();
      ++result.new_tokens;
      if (printer.show(token, end)) continue;
      session.cache().truncate(sequence, static_cast<int64_t>(i) + !end);
      return false;
    }
    return true;
  };
  try {
    if (most > 0) sequence.tokens.push_back(sampler.sample(logits, sequence.tokens, sequence.tokens.size()));
    result.first_token_seconds = seconds_since(start);
    for (auto from = static_cast<size_t>(known); show(from) && result.new_tokens < most;) {
      SignalWatch::expect_none();
      from = sequence.tokens.size();
      speculation.advance(session.generator(), most - result.new_tokens);
    }
  } catch (const Interrupted&) {
    result.interrupted = true;
  }
  result.drafted = speculation.drafted();
  result.accepted = speculation.accepted();
  result.decode_seconds = seconds_since(start) - result.first_token_seconds;
  if (most > 0) result.text = printer.finish();
  return result;
}

void print_timing(const Session& session, const StreamResult& result, const SamplingParams& params) {
  std::ostringstream line;
  line.precision(1);
  line << std::fixed << "load " << session.load_seconds() * 1e3 << " ms, first token " << result.first_token_seconds * 1e3
       << " ms, prefill " << result.prompt_tokens << " tokens " << static_cast<double>(result.prompt_tokens) / result.prefill_seconds
       << " tokens/s";
  if (const int64_t decoded = result.new_tokens - 1; decoded > 0)
    line << ", decode " << decoded << " tokens " << static_cast<double>(decoded) / result.decode_seconds << " tokens/s";
  if (result.drafted > 0) line << ", drafted " << result.drafted << " tokens, right " << result.accepted;
  if (params.temperature > 0) line << ", seed " << params.seed;
  std::cerr << line.str() << '\n';
}

}  // namespace tessera

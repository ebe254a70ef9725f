#include "cli/stream.h"

#include <algorithm>
#include <iostream>
#include <limits>
#include <sstream>

#include "cli/terminal.h"
#include "core/error.h"
#include "core/output_file.h"
#include "generate/generation.h"
#include "text/answer_text.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// What stands before the values of a float32 array [rows, width] in NumPy's format 1.0.
std::string npy_header(int64_t rows, int64_t width) {
  std::string header = message("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", width, "), }");
  constexpr size_t kPrefix = 10, kAlignment = 64;
  header.append(kAlignment - (kPrefix + header.size() + 1) % kAlignment, ' ').push_back('\n');
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size() & 0xFF) + static_cast<char>(header.size() >> 8) + header;
}

// Writes the logits of all rows of the prompt.
void write_logits(Session& session, Sequence& sequence, const std::string& path, const Generator::Progress& progress) {
  Generator::Request request{&sequence, static_cast<int64_t>(sequence.tokens.size())};
  OutputFile file(path);
  file.write(npy_header(request.logit_rows, session.model().spec().vocab_size));
  session.generator().forward(
      std::span(&request, 1), [&](size_t, int64_t, std::span<const float> logits) { file.write(logits.data(), logits.size_bytes()); },
      progress);
  if (request.error) std::rethrow_exception(request.error);
  file.finish();
}

// Shows generated tokens as they come: text, or ids.
class Printer {
 public:
  Printer(Session& session, const StreamOptions& options, const Sequence& sequence, int64_t most) : print_ids_(options.print_ids) {
    const std::vector<std::string>& stops = options.stop.empty() ? session.generation().stop_strings : options.stop;
    if (most == 0 || (print_ids_ && stops.empty())) return;
    answer_.emplace(session.tokenizer(), stops);
    if (options.stop.empty()) answer_->begin_behind(sequence.tokens);
  }

  // false: that was the last, the one that completes a stop string.
  bool show(const NewToken& token) {
    if (print_ids_) write_out(message(first_ ? "" : " ", token.id));
    first_ = false;
    if (answer_ && !token.end) show_text(answer_->push(token.id));
    return !answer_ || !answer_->stopped();
  }

  std::string finish() {
    if (answer_) show_text(answer_->flush());
    write_out("\n");
    return std::move(text_);
  }

 private:
  void show_text(const std::string& text) {
    if (!print_ids_) write_out(text);
    text_ += text;
  }

  bool print_ids_, first_ = true;
  std::optional<AnswerText> answer_;
  std::string text_;
};

// How many tokens are to come behind `known` at most; nullopt: as many as there is room for.
std::optional<int64_t> wanted_new_tokens(const Session& session, const StreamOptions& options, int64_t known) {
  const GenerationConfig& config = session.generation();
  if (options.new_tokens) return options.new_tokens;
  const std::optional<int64_t> most = config.most_new_tokens(known);
  check(config.max_new_tokens || most != 0, "the prompt has ", known, " tokens; max_length of generation_config.json is ",
        config.max_length.value_or(0), ". -n or --generation-config none go past it");
  return most;
}

}  // namespace

StreamResult stream(Session& session, Sequence& sequence, Sampler& sampler, const Drafting& drafting, const StreamOptions& options) {
  const auto known = static_cast<int64_t>(sequence.tokens.size());
  check(known <= session.context(), "the prompt has ", known, " tokens; the context ends at ", session.context(), ". Shorten it",
        longer_context(session));
  StreamResult result{.prompt_tokens = static_cast<size_t>(known - sequence.length())};
  const int64_t room = session.context() - known;
  const std::optional<int64_t> wanted = wanted_new_tokens(session, options, known);
  const int64_t most = std::min(wanted.value_or(room), room);
  sampler.set_max_length(known + most);
  Printer printer(session, options, sequence, most);
  const auto start = Clock::now();
  ProgressBar bar("prompt");
  const auto progress = [&, watch = bar.watched()](int64_t done, int64_t total) {
    watch(done, total);
    if (done == total && result.prefill_seconds == 0) result.prefill_seconds = seconds_since(start);
  };
  if (options.logits_file) write_logits(session, sequence, *options.logits_file, progress);
  const double max_seconds = session.generation().max_time.value_or(std::numeric_limits<double>::infinity());
  result.cut = room == 0 && wanted != 0;
  const auto show = [&](const NewToken& token) {
    const double seconds = seconds_since(start);
    if (result.new_tokens++ == 0) result.first_token_seconds = seconds;
    const bool goes_on = printer.show(token) && !token.end && seconds <= max_seconds;
    result.cut = goes_on && result.new_tokens == room && wanted != room;
    return goes_on;
  };
  Generation generation{.sequence = sequence,
                        .sampler = sampler,
                        .max_new_tokens = most,
                        .drafter = drafting.drafter.get(),
                        .max_draft = drafting.most,
                        .constraint = options.constraint.get(),
                        .goes_on = show};
  try {
    generate(session.generator(), std::span(&generation, 1), progress);
  } catch (const Interrupted&) {
    if (result.new_tokens == 0) throw;
    result.interrupted = true;
  }
  if (result.new_tokens == 0) result.first_token_seconds = result.prefill_seconds;
  result.drafted = generation.drafted;
  result.accepted = generation.accepted;
  result.decode_seconds = seconds_since(start) - result.first_token_seconds;
  if (most > 0) result.text = printer.finish();
  return result;
}

std::string longer_context(const Session& session) {
  const int64_t longest = session.model().spec().max_position_embeddings;
  return session.context() < longest ? message(", or start with a larger -c (the model's context is ", longest, " tokens)") : "";
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

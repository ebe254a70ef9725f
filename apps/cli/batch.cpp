#include <CLI/CLI.hpp>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "api/answering.h"
#include "api/fields.h"
#include "cli/arguments.h"
#include "cli/batch_files.h"
#include "cli/commands.h"
#include "cli/forms.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "generate/scheduler.h"

namespace tessera {
namespace {

// `tessera batch`: the requests of a file in OpenAI's batch format, many at a time.
struct BatchOptions {
  ModelFlags model;
  CacheFlags cache;
  SamplingFlags sampling;
  FormFlags form;
  std::string input, output;
  std::optional<int64_t> new_tokens;
};

using api::Json;

class BatchRun {
 public:
  // `form`: of answers whose requests say nothing of one.
  BatchRun(const BatchOptions& options, const std::optional<GrammarSource>& form, Session& session, const BatchInput& input,
           BatchOutput& output)
      : input_(input),
        output_(output),
        model_(session, {.names = {options.model.model},
                         .any_name = true,
                         .sampling = sampling_options(options.sampling),
                         .new_tokens = options.new_tokens,
                         .form = form}),
        scheduler_(session.generator(), {.budget = options.cache.max_num_batched_tokens,
                                         .max_waiting = std::numeric_limits<int64_t>::max(),
                                         .max_waiting_tokens = std::numeric_limits<int64_t>::max()}) {
    if (form) constraint(*form);  // fails before anything is answered
  }

  void run() {
    const auto start = std::chrono::steady_clock::now();
    ProgressBar bar("answers");
    const auto watch = bar.watched();
    const auto total = static_cast<int64_t>(input_.size() - output_.found());
    try {
      for (bool more = true; more || next_ < input_.size();) {
        watch(answered_ + failed_, total);
        while (next_ < input_.size() && scheduler_.counts().waiting < scheduler_.max_num_seqs()) ask(next_++);
        write_finished();
        more = step();
        write_finished();
      }
    } catch (...) {
      write_finished();
      tell(message("stopped: ", output_.found() + static_cast<size_t>(answered_ + failed_), " of ", input_.size(),
                   " requests are answered; the same command answers the rest"));
      throw;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::string text = message(answered_, " answered, ", failed_, " with errors");
    if (output_.found() > 0) text += message(", ", output_.found(), " had been before");
    const Scheduler::Counts counts = scheduler_.counts();
    tell(text + format("; %lld tokens in %.1f s, %.1f tokens/s", static_cast<long long>(counts.generated), seconds,
                       static_cast<double>(counts.generated) / seconds));
  }

 private:
  // What ends all requests is no answer to any.
  bool step() {
    try {
      return scheduler_.step();
    } catch (...) {
      finished_.clear();
      throw;
    }
  }

  void ask(size_t index) {
    if (output_.is_answered(index)) return;
    const std::string custom_id = input_.custom_id(index);
    try {
      const JsonDocument document = parse_json(input_.line(index), input_.place(index), {.max_bytes = BatchInput::kMostLineBytes});
      submit(custom_id, *json_as<JsonObject>(document.root()));
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      finish(custom_id, api::failure(error));
    }
  }

  void submit(const std::string& custom_id, JsonObject line) {
    api::Fields fields(line);
    api::expect(fields.text("method") == "POST", "method", "must be POST");
    const auto url = fields.text("url");
    fields.ignore({"custom_id"});
    const auto body = fields.object("body");
    api::expect(body.has_value(), "body", "is not there");
    fields.expect_no_others();
    const bool chat = url == "/v1/chat/completions";
    api::expect(chat || url == "/v1/completions", "url", "must be /v1/chat/completions or /v1/completions");
    const auto answering = model_.prepare(chat ? api::Route::chat_completions : api::Route::completions, *body, {});
    api::expect(!answering->stream(), "stream", "must be false: a batch's answers come whole");
    if (answering->format()) answering->constrain(constraint(*answering->format()));
    answering->submit(scheduler_, [this, custom_id, answering](api::AnswerPiece piece) {
      answering->complete(piece);
      answering->append(piece);
      if (piece.last && piece.reason != FinishReason::cancelled) finish(custom_id, answer_of(*answering, piece));
    });
  }

  std::shared_ptr<const TokenConstraint> constraint(const GrammarSource& form) {
    if (!forms_) forms_.emplace(model_.tokenizer(), model_.vocab_size(), model_.end_tokens(), api::mark_ids(model_.format()));
    return forms_->constraint(form);
  }

  static api::Failure answer_of(api::Answering& answering, const api::AnswerPiece& last) {
    try {
      if (last.error) std::rethrow_exception(last.error);
      return {200, answering.writer().body(answering.choices(), last.usage)};
    } catch (const std::exception& error) {
      return api::failure(error);
    }
  }

  void finish(const std::string& custom_id, const api::Failure& answer) {
    const Json line{{"id", "batch_req_" + api::random_hex()},
                    {"custom_id", custom_id},
                    {"response", {{"status_code", answer.status}, {"request_id", api::random_hex()}, {"body", answer.body}}},
                    {"error", nullptr}};
    finished_ += api::dumped(line) + '\n';
    ++(answer.status == 200 ? finished_answers_ : finished_failures_);
  }

  void write_finished() {
    if (finished_.empty()) return;
    output_.write(std::exchange(finished_, {}));
    answered_ += std::exchange(finished_answers_, 0);
    failed_ += std::exchange(finished_failures_, 0);
  }

  const BatchInput& input_;
  BatchOutput& output_;
  const api::ServedModel model_;
  std::optional<Forms> forms_;
  size_t next_ = 0;       // request of the input
  std::string finished_;  // lines that are not written yet
  int64_t finished_answers_ = 0, finished_failures_ = 0, answered_ = 0, failed_ = 0;
  Scheduler scheduler_;
};

int batch(const BatchOptions& options) {
  const SignalWatch watch;
  const std::optional<GrammarSource> asked = form(options.form);
  const BatchInput input(options.input);
  BatchOutput output(options.output, input);
  if (output.found() == input.size()) {
    tell(message("all ", input.size(), " requests are answered already"));
    return 0;
  }
  Session session(options.model, options.cache);
  if (session.generation().max_time) tell("note: max_time of generation_config.json ends no answer of a batch");
  BatchRun(options, asked, session, input, output).run();
  return 0;
}

}  // namespace

void add_batch(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("batch", "Answer a file of requests in OpenAI's batch format, many at a time");
  const auto options = std::make_shared<BatchOptions>();
  command.callback([options, &code] { code = batch(*options); });
  command.footer(
      "A request is a line {\"custom_id\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\" or \"/v1/completions\", \"body\"}, an "
      "answer a "
      "line {\"id\", \"custom_id\", \"response\": {\"status_code\", \"request_id\", \"body\"}, \"error\"}, in the order in which they are "
      "done.\n"
      "All lines are read before the first is answered: one that is no JSON or has no custom_id of its own ends the command. A request "
      "that is "
      "refused is answered by an error, with a status_code of 400, and the others go on.\n"
      "An answer is finished when it is on the disk. Stopped in its midst, the same command answers what is not answered yet.\n"
      "The exit code is 0 when all requests are answered, be it by errors.");
  add_model_flags(command, options->model);
  command.add_option("-i,--input", options->input, "The requests")->required()->type_name("FILE");
  command.add_option("-o,--output", options->output, "The answers; what is there of them stays")->required()->type_name("FILE");
  add_new_tokens_flag(command, options->new_tokens, 0, "New tokens at most where a request does not say");
  add_cache_flags(command, options->cache);
  add_sampling_flags(command, options->sampling, options->model.generation_config);
  add_form_flags(command, options->form, "An answer whose request says nothing of a form");
}

}  // namespace tessera

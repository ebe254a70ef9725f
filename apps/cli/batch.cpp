#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <utility>

#include "api/chat_completions.h"
#include "api/chat_request.h"
#include "api/completions.h"
#include "cli/arguments.h"
#include "cli/batch_files.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "engine/conversation.h"
#include "generate/scheduler.h"
#include "text/answer_text.h"

namespace tessera {
namespace {

// `tessera batch`: the requests of a file in OpenAI's batch format, many at a time.
struct BatchOptions {
  ModelFlags model;
  CacheFlags cache;
  SamplingFlags sampling;
  std::string input, output;
  std::optional<int64_t> new_tokens;
};

using api::Json;

std::string random_hex() {
  std::random_device random;
  std::string text;
  for (int i = 0; i < 4; ++i) text += format("%08x", random());
  return text;
}

// The body's fields go before the command's flags.
SamplingParams sampling_of(const api::GenerationFields& fields, const SamplingFlags& flags, const GenerationConfig& config,
                           int64_t vocab_size) {
  SamplingFlags all = flags;
  const auto take = [](auto& flag, const auto& field) {
    if (field) flag = *field;
  };
  take(all.temperature, fields.temperature);
  take(all.top_p, fields.top_p);
  take(all.top_k, fields.top_k);
  take(all.min_p, fields.min_p);
  take(all.presence_penalty, fields.presence_penalty);
  take(all.frequency_penalty, fields.frequency_penalty);
  take(all.repetition_penalty, fields.repetition_penalty);
  take(all.min_new_tokens, fields.min_tokens);
  take(all.ignore_eos, fields.ignore_eos);
  take(all.seed, fields.seed);
  SamplingParams params = sampling_params(all, config, vocab_size);
  for (const auto& [token, bias] : fields.logit_bias) params.logit_bias[token] = bias;
  return params;
}

// A request on its way: its choices as they come.
struct Asked {
  std::string custom_id;
  bool chat = false;
  std::vector<api::Choice> choices;
  std::deque<AnswerText> texts = {};  // of each choice
  std::vector<TokenId> stop_token_ids = {};
  api::Usage usage = {};
  size_t left = 0;  // choices that have not ended
  std::exception_ptr error = {};
  bool cancelled = false;
};

class BatchRun {
 public:
  BatchRun(const BatchOptions& options, Session& session, const BatchInput& input, BatchOutput& output)
      : options_(options),
        session_(session),
        input_(input),
        output_(output),
        scheduler_(session.generator(), {.budget = options.cache.max_num_batched_tokens,
                                         .max_waiting = std::numeric_limits<int64_t>::max(),
                                         .max_waiting_tokens = std::numeric_limits<int64_t>::max()}) {}

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

  int64_t vocab_size() const { return session_.model().spec().vocab_size; }

  void ask(size_t index) {
    if (output_.is_answered(index)) return;
    const auto asked = std::make_shared<Asked>(Asked{.custom_id = input_.custom_id(index)});
    try {
      const JsonDocument document = parse_json(input_.line(index), input_.place(index), {.max_bytes = BatchInput::kMostLineBytes});
      submit(asked, *json_as<JsonObject>(document.root()));
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      finish(*asked, api::failure(error));
    }
  }

  void submit(const std::shared_ptr<Asked>& asked, JsonObject line) {
    api::Fields fields(line);
    api::expect(fields.text("method") == "POST", "method", "must be POST");
    const auto url = fields.text("url");
    fields.ignore({"custom_id"});
    const auto body = fields.object("body");
    api::expect(body.has_value(), "body", "is not there");
    fields.expect_no_others();
    if (url == "/v1/chat/completions")
      submit_chat(asked, *body);
    else if (url == "/v1/completions")
      submit_completion(asked, *body);
    else
      api::refuse("url", "must be /v1/chat/completions or /v1/completions");
  }

  void submit_chat(const std::shared_ptr<Asked>& asked, JsonObject body) {
    const api::ChatCompletionFields fields = api::read_chat_completion(body, vocab_size());
    asked->chat = true;
    if (!conversation_) conversation_.emplace(session_.checkpoint(), session_.tokenizer(), ConversationOptions());
    if (chat_ends_.empty()) chat_ends_ = conversation_->end_tokens(session_);
    submit_prompts(asked, fields.generation, {conversation_->ids_of(api::chat_request(fields))}, chat_ends_, "messages");
  }

  void submit_completion(const std::shared_ptr<Asked>& asked, JsonObject body) {
    const api::CompletionFields fields = api::read_completion(body, vocab_size());
    const Tokenizer& tokenizer = session_.tokenizer();
    std::vector<std::vector<TokenId>> prompts;
    std::vector<std::string> echoed;
    for (const api::CompletionFields::Prompt& prompt : fields.prompts) {
      const auto* const text = std::get_if<std::string>(&prompt);
      prompts.push_back(text ? tokenizer.encode(*text, {.add_special_tokens = true, .parse_special = true})
                             : std::get<std::vector<TokenId>>(prompt));
      api::expect(!prompts.back().empty(), "prompt", "is empty; give it at least one character");
      if (fields.echo) echoed.push_back(text ? *text : tokenizer.decode(prompts.back(), {.skip_special = true}));
    }
    submit_prompts(asked, fields.generation, std::move(prompts), session_.generation().tokens.eos, "prompt", echoed);
  }

  // n choices of each prompt. `echoed`: what their texts begin with.
  void submit_prompts(const std::shared_ptr<Asked>& asked, const api::GenerationFields& fields, std::vector<std::vector<TokenId>> prompts,
                      std::vector<TokenId> end_tokens, const std::string& param, const std::vector<std::string>& echoed = {}) {
    api::expect(!fields.stream, "stream", "must be false: a batch's answers come whole");
    const GenerationConfig& config = session_.generation();
    const SamplingParams sampling = sampling_of(fields, options_.sampling, config, vocab_size());
    check_sampling(sampling, vocab_size());
    if (!sampling.ignore_eos) end_tokens.insert(end_tokens.end(), fields.stop_token_ids.begin(), fields.stop_token_ids.end());
    asked->stop_token_ids = fields.stop_token_ids;
    std::vector<int64_t> most;
    for (const std::vector<TokenId>& prompt : prompts) {
      const auto known = static_cast<int64_t>(prompt.size());
      api::expect_room(known, fields.max_tokens, session_.context(), param);
      most.push_back(fields.max_tokens.value_or(usual_new_tokens(known)));
    }
    const Tokenizer& tokenizer = session_.tokenizer();
    for (size_t i = 0; i < prompts.size(); ++i) {
      for (int64_t sample = 0; sample < fields.n; ++sample) {
        api::Choice& choice = asked->choices.emplace_back();
        if (fields.logprobs) choice.tokens.emplace();
        if (!echoed.empty()) choice.text = echoed[i];
        AnswerText& text = asked->texts.emplace_back(tokenizer, fields.stop.value_or(config.stop_strings));
        if (!fields.stop) text.begin_behind(prompts[i]);
      }
      asked->usage.prompt_tokens += static_cast<int64_t>(prompts[i].size());
    }
    asked->left = asked->choices.size();
    for (size_t i = 0; i < prompts.size(); ++i) {
      const size_t first = i * static_cast<size_t>(fields.n), end = first + static_cast<size_t>(fields.n);
      ScheduledRequest request{.prompt = std::move(prompts[i]),
                               .sampling = sampling,
                               .end_tokens = end_tokens,
                               .max_new_tokens = most[i],
                               .n = fields.n,
                               .logprobs = fields.logprobs,
                               .priority = fields.priority,
                               .salt = fields.cache_salt};
      if (!echoed.empty() && fields.logprobs) {
        request.prompt_logprobs = fields.logprobs;
        request.on_prompt = [this, asked, first, end, prompt = request.prompt](const std::vector<TokenLogprobs>& logprobs) {
          const std::vector<api::TokenChoice> tokens = api::prompt_choices(prompt, logprobs, session_.tokenizer());
          for (size_t choice = first; choice < end; ++choice) *asked->choices[choice].tokens = tokens;
        };
      }
      request.on_token = [this, asked, first](const ScheduledRequest::Token& token) { return take(*asked, first + token.sample, token); };
      request.on_end = [this, asked, first](const ScheduledRequest::End& ended) { take_end(*asked, first + ended.sample, ended); };
      scheduler_.submit(std::move(request));
    }
  }

  // As the flag says, or the checkpoint, or to the context's end.
  int64_t usual_new_tokens(int64_t known) const {
    const GenerationConfig& config = session_.generation();
    std::optional<int64_t> most = options_.new_tokens ? options_.new_tokens : config.most_new_tokens(known);
    if (!options_.new_tokens && !config.max_new_tokens && most == 0) most = 1;  // past max_length
    return std::min(most.value_or(session_.context()), session_.context() - known);
  }

  bool take(Asked& asked, size_t index, const ScheduledRequest::Token& token) {
    const bool stops = std::find(asked.stop_token_ids.begin(), asked.stop_token_ids.end(), token.id) != asked.stop_token_ids.end();
    if (token.end || stops) return false;
    api::Choice& choice = asked.choices[index];
    AnswerText& text = asked.texts[index];
    choice.text += text.push(token.id);
    if (token.logprobs) choice.tokens->push_back(api::token_choice(*token.logprobs, session_.tokenizer()));
    return !text.stopped();
  }

  void take_end(Asked& asked, size_t index, const ScheduledRequest::End& ended) {
    api::Choice& choice = asked.choices[index];
    choice.text += asked.texts[index].flush();
    choice.finish_reason = ended.reason == FinishReason::stop ? "stop" : "length";
    asked.usage.completion_tokens += ended.new_tokens;
    if (ended.sample == 0) asked.usage.cached_tokens += ended.cached_tokens;
    if (ended.error && !asked.error) asked.error = ended.error;
    asked.cancelled = asked.cancelled || ended.reason == FinishReason::cancelled;
    if (--asked.left > 0 || asked.cancelled) return;
    if (!asked.error) return finish(asked, {200, body_of(asked)});
    try {
      std::rethrow_exception(asked.error);
    } catch (const std::exception& error) {
      finish(asked, api::failure(error));
    }
  }

  Json body_of(const Asked& asked) const {
    const api::AnswerHeader header{(asked.chat ? "chatcmpl-" : "cmpl-") + random_hex(), options_.model.model, std::time(nullptr)};
    return asked.chat ? api::chat_completion(header, asked.choices, asked.usage) : api::completion(header, asked.choices, asked.usage);
  }

  void finish(const Asked& asked, const api::Failure& answer) {
    const Json line{{"id", "batch_req_" + random_hex()},
                    {"custom_id", asked.custom_id},
                    {"response", {{"status_code", answer.status}, {"request_id", random_hex()}, {"body", answer.body}}},
                    {"error", nullptr}};
    finished_ += line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
    ++(answer.status == 200 ? finished_answers_ : finished_failures_);
  }

  void write_finished() {
    if (finished_.empty()) return;
    output_.write(std::exchange(finished_, {}));
    answered_ += std::exchange(finished_answers_, 0);
    failed_ += std::exchange(finished_failures_, 0);
  }

  const BatchOptions& options_;
  Session& session_;
  const BatchInput& input_;
  BatchOutput& output_;
  std::optional<Conversation> conversation_;
  std::vector<TokenId> chat_ends_;
  size_t next_ = 0;       // request of the input
  std::string finished_;  // lines that are not written yet
  int64_t finished_answers_ = 0, finished_failures_ = 0, answered_ = 0, failed_ = 0;
  Scheduler scheduler_;
};

int batch(const BatchOptions& options) {
  const SignalWatch watch;
  const BatchInput input(options.input);
  BatchOutput output(options.output, input);
  if (output.found() == input.size()) {
    tell(message("all ", input.size(), " requests are answered already"));
    return 0;
  }
  Session session(options.model, options.cache);
  if (session.generation().max_time) tell("note: max_time of generation_config.json ends no answer of a batch");
  BatchRun(options, session, input, output).run();
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
}

}  // namespace tessera

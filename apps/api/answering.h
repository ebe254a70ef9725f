#pragma once
// From the body of a request to its answer: what it asks of the scheduler, and the pieces in which its choices come.
#include <chrono>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/answer_format.h"
#include "api/answer_grammar.h"
#include "api/answer_reader.h"
#include "api/answer_writer.h"
#include "api/chat_completions.h"
#include "api/completions.h"
#include "engine/conversation.h"
#include "engine/running_model.h"
#include "engine/sampling_options.h"
#include "generate/scheduler.h"
#include "generate/token_constraint.h"

namespace tessera::api {

std::string random_hex();  // 128 bits of it: what is behind an id's first letters

enum class Route { chat_completions, completions, responses, messages };

// Who asks.
struct Asker {
  std::string name = "";  // askers of one priority take turns
  std::string salt = "";  // pages are not shared beyond it
  std::chrono::steady_clock::duration queue_timeout = std::chrono::steady_clock::duration::max(), timeout = queue_timeout;
};

struct ServedModelOptions {
  std::vector<std::string> names;          // at least one: the first is told, and a request may name any
  bool any_name = false;                   // or whatever else
  SamplingOptions sampling = {};           // a body's fields go before them
  std::optional<int64_t> new_tokens = {};  // of requests that say nothing
  bool special_in_prompt = true;           // texts of /v1/completions mean special tokens by their names, as AutoTokenizer reads them
  std::optional<GrammarSource> form = {};  // of answers whose requests say nothing of one
  ConversationOptions conversation = {};
  Enforceable enforceable = {};
};

class Answering;

// What requests are answered with. Any thread may prepare one.
class ServedModel {
 public:
  // `running` must outlive this.
  ServedModel(RunningModel& running, ServedModelOptions options);

  // Throws FieldError and std::invalid_argument for what the body asks and cannot be had, FileError for a checkpoint without a template.
  std::shared_ptr<Answering> prepare(Route route, JsonObject body, const Asker& asker) const;

  // How forms are compiled; without it there are none. Before any request.
  using Compile = std::function<std::shared_ptr<const TokenConstraint>(const GrammarSource& source, const std::string& asker)>;
  void set_compile(Compile compile) { compile_ = std::move(compile); }

  // What holds the answer to its format(), for the asker of that name; waits for it to be compiled. Throws FieldError for a form that
  // cannot be held.
  std::shared_ptr<const TokenConstraint> compile(const Answering& answering, const std::string& asker) const;

  // The answers of /tokenize, /detokenize, /tokenizer_info and /v1/messages/count_tokens.
  Json tokenize(JsonObject body) const;
  Json detokenize(JsonObject body) const;
  Json tokenizer_info() const;
  Json count_tokens(JsonObject body) const;

  const std::string& name() const { return options_.names.front(); }
  const std::vector<std::string>& names() const { return options_.names; }
  int64_t opened() const { return opened_; }                       // seconds since 1970
  void expect_name(const std::optional<std::string>& name) const;  // 404's FieldError, of code model_not_found
  const Tokenizer& tokenizer() const { return tokenizer_; }
  // What ends a chat's answer and a text that keeps to a form, beside a request's own stop_token_ids.
  const std::vector<TokenId>& end_tokens() const;
  const AnswerFormat& format() const { return format_; }
  int64_t context() const { return running_.context(); }
  int64_t vocab_size() const { return running_.model().spec().vocab_size; }

 private:
  std::vector<TokenId> chat_ids(ChatCompletionFields fields) const;
  std::vector<TokenId> prompt_ids(const std::string& text, bool add_special_tokens) const;
  std::shared_ptr<Answering> prepare_chat(ChatCompletionFields fields, std::unique_ptr<AnswerWriter> writer, const AnswerHeader& header,
                                          const std::string& param, const Asker& asker) const;
  std::shared_ptr<Answering> prepare_completion(CompletionFields fields, AnswerHeader header, const Asker& asker) const;
  SamplingParams sampling_of(const GenerationFields& fields) const;
  int64_t most_new_tokens(const GenerationFields& fields, int64_t known) const;
  std::shared_ptr<Answering> made(const AnswerHeader& header, const GenerationFields& fields, std::vector<std::vector<TokenId>> prompts,
                                  const std::vector<std::string>& echoed, std::vector<TokenId> ends, const std::string& param,
                                  AnswerReaderOptions reading, std::unique_ptr<AnswerWriter> writer, const Asker& asker) const;

  RunningModel& running_;
  ServedModelOptions options_;
  const Tokenizer& tokenizer_;
  int64_t opened_;
  std::optional<Conversation> conversation_;
  std::exception_ptr no_conversation_;  // why there is none
  AnswerFormat format_;
  std::vector<TokenId> chat_ends_;
  Compile compile_;
};

// A piece of an answer, as the engine gives it.
struct AnswerPiece {
  AnswerDelta delta;
  std::optional<TokenLogprobs> logprobs = {};  // of its token
  std::optional<std::vector<TokenLogprobs>> prompt_logprobs = {};
  Usage usage = {};                                 // so far
  std::chrono::steady_clock::duration queued = {};  // until it first ran
  bool last = false;                                // every choice has ended
  std::exception_ptr error = {};                    // with the last: the request came to nothing
  FinishReason reason = FinishReason::stop;         // the worst of its choices', with the last
};

// A request on its way. Its pieces come on the engine's thread, in order.
class Answering : public std::enable_shared_from_this<Answering> {
 public:
  using Take = std::function<void(AnswerPiece piece)>;  // must not wait for long, nor throw with the last

  // Once. Throws what Scheduler::submit throws, and nothing was asked then. `take` lives until the last piece.
  void submit(Scheduler& scheduler, Take take);
  // From any thread, before, while or after it runs.
  void cancel();

  // Puts the texts of a piece's log-probabilities into its delta.
  void complete(AnswerPiece& piece) const;
  // Appends a piece to the choices: what body() is made of.
  void append(const AnswerPiece& piece);
  const std::vector<Choice>& choices() const { return choices_; }

  const std::optional<GrammarSource>& format() const { return format_; }
  void constrain(std::shared_ptr<const TokenConstraint> constraint);  // before submit
  AnswerWriter& writer() { return *writer_; }
  bool stream() const { return stream_; }
  int64_t max_new_tokens() const { return max_new_tokens_; }  // of a choice
  const std::string& id() const { return id_; }

 private:
  friend class ServedModel;
  bool take_token(size_t choice, const ScheduledRequest::Token& token);
  void take_end(size_t choice, const ScheduledRequest::End& end);

  AnswerPiece begin_piece(size_t choice);
  void tell(AnswerPiece piece);
  void note_start(size_t choice, size_t sample, int64_t cached_tokens, std::chrono::steady_clock::duration queued);

  std::string id_;
  const Tokenizer* tokenizer_ = nullptr;
  std::vector<ScheduledRequest> requests_;     // of each prompt
  std::vector<std::vector<TokenId>> prompts_;  // where their log-probabilities are shown
  std::optional<GrammarSource> format_;
  std::string format_param_;
  std::vector<TokenId> stop_token_ids_;
  bool logprobs_ = false, echoes_ = false, token_ids_ = false, stream_ = false;
  bool tells_ends_ = false;  // log-probabilities of end tokens too: lm-eval takes the last for the one new token of a completion
  std::unique_ptr<AnswerWriter> writer_;
  std::vector<Choice> choices_;
  int64_t max_new_tokens_ = 0;
  // Of the engine's thread.
  std::deque<AnswerReader> readers_;  // of each choice
  std::vector<AnswerPiece> begun_;    // of each choice: what its first piece begins with
  std::unique_ptr<bool[]> started_;   // of each prompt's first choice
  std::chrono::steady_clock::duration queued_ = {};
  Usage usage_;
  size_t left_ = 0;  // choices that have not ended
  std::exception_ptr error_;
  FinishReason reason_ = FinishReason::stop;

  std::mutex telling_;
  Take take_;  // empty: nobody listens

  std::mutex mutex_;
  Scheduler* scheduler_ = nullptr;
  std::vector<Scheduler::Id> ids_;
  bool cancelled_ = false;
};

}  // namespace tessera::api

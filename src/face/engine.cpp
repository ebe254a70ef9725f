#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "engine/conversation.h"
#include "engine/running_model.h"
#include "engine/sampling_options.h"
#include "evaluate/scoring.h"
#include "generate/scheduler.h"
#include "kinds/memory_plan.h"
#include "tessera/tessera.h"
#include "text/answer_text.h"
#include "text/jinja/lexer.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

std::optional<DataType> data_type(const std::string& field, const std::string& text) {
  try {
    return text.empty() ? std::nullopt : std::optional(parse_data_type(text));
  } catch (const std::invalid_argument& error) {
    fail(field, ": ", error.what());
  }
}

LoadOptions load_options(const std::string& model, const EngineOptions& options) {
  constexpr int kMostThreads = 1024;
  check(options.threads >= 0 && options.threads <= kMostThreads, "threads: ", options.threads, " is outside 0 to ", kMostThreads);
  check(options.context >= 0 && options.context <= kLongestContext, "context: ", options.context, " is outside 0 to ", kLongestContext);
  check(options.sequences >= 0, "sequences: ", options.sequences, " is negative; 0 is as many as there is room for");
  check(options.cache_bytes >= 0, "cache_bytes: ", options.cache_bytes, " is negative; 0 is what memory leaves");
  return {.model = model,
          .device = options.device,
          .revision = options.revision.empty() ? std::nullopt : std::optional(options.revision),
          .threads = options.threads,
          .precision = {data_type("weights", options.weights), data_type("activations", options.activations),
                        data_type("cache", options.cache)},
          .context = options.context,
          .generation_config = options.generation_config};
}

const char* text_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::timeout:
      return "timeout";
    case FinishReason::error:
      break;
  }
  return "error";
}

// What tickets know of their engine, which may go before them.
struct Link {
  std::mutex mutex;
  Scheduler* scheduler = nullptr;
  std::thread::id thread = {};  // that answers
};

}  // namespace

struct Ticket::State {
  std::shared_ptr<Link> link;
  Scheduler::Id id = 0;

  // Of the thread that answers, until the end.
  Answer answer;
  std::optional<AnswerText> text;
  OnText on_text;
  std::optional<Clock::time_point> latest;  // a token behind which no other comes

  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;

  // False: on_text has seen enough.
  bool show(const std::string& piece) {
    answer.text += piece;
    return piece.empty() || !on_text || on_text(piece);
  }

  bool take(const ScheduledRequest::Token& token) {
    if (token.end) return false;
    answer.ids.push_back(token.id);
    return show(text->push(token.id)) && !text->stopped() && !(latest && Clock::now() > *latest);
  }

  void end(const ScheduledRequest::End& end) {
    std::exception_ptr failure = end.error;
    try {
      show(text->flush());
      answer.finish_reason = text_of(text->stopped() ? FinishReason::stop : end.reason);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
    on_text = {};  // with what it holds
    answer.prompt_tokens = end.prompt_tokens;
    answer.cached_tokens = end.cached_tokens;
    const std::lock_guard lock(mutex);
    error = failure;
    done = true;
    changed.notify_all();
  }
};

Answer Ticket::wait() const {
  std::unique_lock lock(state_->mutex);
  check(state_->done || std::this_thread::get_id() != state_->link->thread,
        "on_text waits for an answer on the thread that answers, which would wait for itself; submit there, and wait elsewhere");
  state_->changed.wait(lock, [this] { return state_->done; });
  if (state_->error) std::rethrow_exception(state_->error);
  return state_->answer;
}

bool Ticket::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->done;
}

void Ticket::cancel() const {
  const std::lock_guard lock(state_->link->mutex);
  if (state_->link->scheduler) state_->link->scheduler->cancel(state_->id);
}

class Engine::Impl {
 public:
  Impl(const LoadOptions& loading, const EngineOptions& options)
      : running_{open_checkpoint(loading),
                 std::nullopt,
                 open_device(loading.device, {.threads = loading.threads}),
                 loading,
                 RunningModel::sharing(loading, options.sequences, static_cast<size_t>(options.cache_bytes)),
                 {.note = [this](const std::string& note) { notes_.push_back(note); },
                  .progress = options.on_load,
                  .without_generation_config = "generation_config \"none\""}},
        tokenizer_(running_.tokenizer()),
        scheduler_(running_.generator(), {}) {
    open_conversation(options);
    link_->scheduler = &scheduler_;
    thread_ = std::thread([this] { answer_all(); });
    link_->thread = thread_.get_id();
  }

  ~Impl() {
    {
      const std::lock_guard lock(link_->mutex);
      link_->scheduler = nullptr;
    }
    scheduler_.stop();
    thread_.join();
  }

  Ticket submit(std::string_view prompt, const GenerateOptions& options, const OnText& on_text) {
    std::vector<TokenId> ids = tokenize(prompt);
    check(!ids.empty(), "the prompt is empty: give it at least one character");
    return submit(std::move(ids), running_.generation().tokens.eos, options, on_text);
  }

  Ticket submit_chat(const std::vector<Message>& messages, const GenerateOptions& options, const OnText& on_text) {
    if (!conversation_) std::rethrow_exception(no_conversation_);
    std::vector<Conversation::Message> said;
    for (const Message& message : messages) {
      if (message.ids.empty()) {
        said.push_back({message.role, message.content, {}});
      } else {
        for (const TokenId id : message.ids)
          check(id >= 0 && id < vocab_size(), "messages: token ", id, " is outside the vocabulary of ", vocab_size());
        said.push_back(conversation_->answer(message.content, message.ids));
        said.back().role = message.role;
      }
    }
    return submit(conversation_->ids(said), ends_of_turns_, options, on_text);
  }

  Score score(std::string_view text) {
    const ScoredText scored = scored_text(tokenize(text), context(), 0, running_.generation().tokens.bos);
    Score result{.ids = scored.tokens};
    Mean losses;
    for (const Window& window : scored.windows) {
      const std::vector<TokenLogprobs> found = logprobs(window_tokens(scored, window));
      for (int64_t i = window.first_scored; i < window.end; ++i) {
        result.log_probs.push_back(found[static_cast<size_t>(i - window.begin - 1)].logprob);
        losses.add(-result.log_probs.back());
      }
    }
    result.perplexity = perplexity(losses).value;
    return result;
  }

  std::vector<TokenId> tokenize(std::string_view text) const {
    return tokenizer_.encode(text, {.add_special_tokens = true, .parse_special = true});
  }

  std::string detokenize(const std::vector<TokenId>& ids) const { return tokenizer_.decode(ids, {.skip_special = true}); }
  int64_t context() const { return running_.context(); }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  int64_t vocab_size() const { return running_.model().spec().vocab_size; }

  // A base model has no template, and a template may not be supported: that counts when someone chats.
  void open_conversation(const EngineOptions& options) {
    ConversationOptions said;
    if (!options.chat_template.empty())
      said.chat_template = {read_file(options.chat_template, jinja::kMostSourceBytes), options.chat_template};
    try {
      conversation_.emplace(running_.checkpoint(), tokenizer_, std::move(said));
      ends_of_turns_ = conversation_->end_tokens(running_);
    } catch (const FileError&) {
      if (!options.chat_template.empty()) throw;
      no_conversation_ = std::current_exception();
      conversation_.reset();
    }
  }

  // An error that no request caused has been told to all, and those that come may fare better.
  void answer_all() {
    for (;;) {
      try {
        return scheduler_.run();
      } catch (...) {
      }
    }
  }

  Ticket submit(std::vector<TokenId> prompt, const std::vector<TokenId>& ends, const GenerateOptions& options, const OnText& on_text) {
    const GenerationConfig& config = running_.generation();
    const auto known = static_cast<int64_t>(prompt.size());
    check(known <= context(), "prompt: its ", known, " tokens are more than the context of ", context(), "; shorten it");
    const int64_t room = context() - known;
    const std::optional<int64_t> wanted = options.max_new_tokens ? options.max_new_tokens : config.most_new_tokens(known);
    check(options.max_new_tokens || config.max_new_tokens || wanted != 0, "prompt: it has ", known,
          " tokens; max_length of generation_config.json is ", config.max_length.value_or(0),
          ". max_new_tokens or generation_config \"none\" go past it");
    const auto state = std::make_shared<Ticket::State>();
    state->link = link_;
    state->on_text = on_text;
    state->text.emplace(tokenizer_, options.stop.empty() ? config.stop_strings : options.stop);
    if (options.stop.empty()) state->text->begin_behind(prompt);
    if (config.max_time)
      state->latest = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*config.max_time));
    state->id = scheduler_.submit({.prompt = std::move(prompt),
                                   .sampling = sampling_params({.temperature = options.temperature,
                                                                .top_p = options.top_p,
                                                                .min_p = options.min_p,
                                                                .repetition_penalty = options.repetition_penalty,
                                                                .presence_penalty = options.presence_penalty,
                                                                .frequency_penalty = options.frequency_penalty,
                                                                .top_k = options.top_k,
                                                                .seed = options.seed,
                                                                .logit_bias = options.logit_bias,
                                                                .min_new_tokens = options.min_new_tokens,
                                                                .ignore_eos = options.ignore_eos},
                                                               config, vocab_size()),
                                   .end_tokens = ends,
                                   .max_new_tokens = std::min(wanted.value_or(room), room),
                                   .priority = options.priority,
                                   .on_token = [state](const ScheduledRequest::Token& token) { return state->take(token); },
                                   .on_end = [state](const ScheduledRequest::End& end) { state->end(end); }});
    return Ticket(state);
  }

  // Of all tokens but the first.
  std::vector<TokenLogprobs> logprobs(std::vector<TokenId> tokens) {
    const auto state = std::make_shared<Ticket::State>();
    state->link = link_;
    state->text.emplace(tokenizer_, std::vector<std::string>{});
    std::vector<TokenLogprobs> found;
    state->id = scheduler_.submit({.prompt = std::move(tokens),
                                   .prompt_logprobs = 0,
                                   .on_prompt = [&](const std::vector<TokenLogprobs>& all) { found = all; },
                                   .on_end = [state](const ScheduledRequest::End& end) { state->end(end); }});
    const Answer answer = Ticket(state).wait();
    check<std::runtime_error>(answer.finish_reason != "cancelled", "score: the engine went before the text was read");
    return found;
  }

  std::vector<std::string> notes_;
  RunningModel running_;
  const Tokenizer& tokenizer_;
  std::optional<Conversation> conversation_;
  std::exception_ptr no_conversation_;
  std::vector<TokenId> ends_of_turns_;
  Scheduler scheduler_;
  std::shared_ptr<Link> link_ = std::make_shared<Link>();
  std::thread thread_;
};

Engine Engine::load(const std::string& directory_or_id, const EngineOptions& options) {
  return Engine(std::make_unique<Impl>(load_options(directory_or_id, options), options));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Answer Engine::generate(std::string_view prompt, const GenerateOptions& options, const OnText& on_text) const {
  return impl_->submit(prompt, options, on_text).wait();
}

Answer Engine::chat(const std::vector<Message>& messages, const GenerateOptions& options, const OnText& on_text) const {
  return impl_->submit_chat(messages, options, on_text).wait();
}

Ticket Engine::submit(std::string_view prompt, const GenerateOptions& options, const OnText& on_text) const {
  return impl_->submit(prompt, options, on_text);
}

Ticket Engine::submit_chat(const std::vector<Message>& messages, const GenerateOptions& options, const OnText& on_text) const {
  return impl_->submit_chat(messages, options, on_text);
}

Score Engine::score(std::string_view text) const { return impl_->score(text); }

std::vector<int32_t> Engine::tokenize(std::string_view text) const { return impl_->tokenize(text); }
std::string Engine::detokenize(const std::vector<int32_t>& ids) const { return impl_->detokenize(ids); }
int64_t Engine::context() const { return impl_->context(); }
const std::vector<std::string>& Engine::notes() const { return impl_->notes(); }

}  // namespace tessera

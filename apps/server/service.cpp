#include "server/service.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cmath>
#include <deque>
#include <new>
#include <thread>
#include <utility>

#include "api/messages.h"
#include "api/models.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera::server {
namespace {

using Clock = std::chrono::steady_clock;
using api::Json;

constexpr size_t kMostBodyBytes = 8 << 20;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

api::Failure busy(const std::string& message, const std::string& code) { return api::failure(503, message, code); }

// Where there is no memory even to end a request, waits for some.
template <class Act>
void until_it_can(const Act& act) {
  for (;;) {
    try {
      return act();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace

// What parses requests and writes answers, and what may wait: for a form to be compiled in another process.
struct Service::Workers {
  boost::asio::thread_pool writing{2}, waiting{8};
};

// A request for an answer, from its arrival to its end.
struct Service::Asked {
  uint64_t number;
  api::Route route;
  std::string path, key;
  std::shared_ptr<Exchange> exchange;
  Clock::time_point arrived = Clock::now();

  std::mutex mutex;
  std::shared_ptr<api::Answering> answering = {};
  bool gone = false, submitted = false, ended = false;
  std::deque<std::pair<Clock::time_point, api::AnswerPiece>> pieces = {};
  bool taken = false;  // a worker takes them, or is about to
  RequestTimes times = {};

  std::vector<Clock::time_point> last_tokens = {};  // of each choice; whoever takes the pieces has them
};

// A path, or the beginning of one, and what it takes.
struct Service::Entry {
  std::string_view path;
  std::string_view method;
  bool open = false;  // to those without a key
  std::optional<api::Route> route = {};
  bool is_prefix = false;
};

const Service::Entry* Service::find(std::string_view path) {
  static const Entry kEntries[] = {
      {"/health", "GET", true},
      {"/ready", "GET", true},
      {"/metrics", "GET"},
      {"/version", "GET"},
      {"/v1/models", "GET"},
      {"/v1/models/", "GET", false, {}, true},
      {"/tokenize", "POST"},
      {"/detokenize", "POST"},
      {"/tokenizer_info", "GET"},
      {"/v1/messages/count_tokens", "POST"},
      {"/v1/completions", "POST", false, api::Route::completions},
      {"/v1/chat/completions", "POST", false, api::Route::chat_completions},
      {"/v1/responses", "POST", false, api::Route::responses},
      {"/v1/messages", "POST", false, api::Route::messages},
  };
  for (const Entry& entry : kEntries)
    if (entry.is_prefix ? path.starts_with(entry.path) && path.size() > entry.path.size() : path == entry.path) return &entry;
  return nullptr;
}

Service::Service(ServiceOptions options) : options_(std::move(options)), workers_(std::make_unique<Workers>()) {}

Service::~Service() { close(); }

void Service::close() {
  {
    const std::lock_guard lock(closing_);
    is_closed_ = true;
  }
  workers_->waiting.join();
  workers_->writing.join();
}

void Service::open(api::ServedModel& model, Scheduler& scheduler) {
  model_ = &model;
  scheduler_ = &scheduler;
  state_ = State::ready;
}

void Service::drain() {
  State ready = State::ready;
  if (!state_.compare_exchange_strong(ready, State::draining)) {
    State loading = State::loading;
    state_.compare_exchange_strong(loading, State::draining);
  }
}

void Service::fail(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    why_failed_ = why;
  }
  state_ = State::failed;
  end_all(why);
}

bool Service::wait_until_idle(std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, longest, [this] { return running_.empty(); });
}

void Service::end_all(const std::string& why) {
  std::vector<std::shared_ptr<Asked>> running;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, asked] : running_) running.push_back(asked);
  }
  for (const std::shared_ptr<Asked>& asked : running) {
    {
      const std::lock_guard lock(asked->mutex);
      if (!asked->submitted) continue;  // submit() looks at the state
    }
    push(asked, {.delta = {}, .last = true, .error = std::make_exception_ptr(ResourceError(why))});
  }
}

void Service::push(const std::shared_ptr<Asked>& asked, api::AnswerPiece piece) {
  const std::lock_guard lock(asked->mutex);
  if (asked->ended) return;
  until_it_can([&] { asked->pieces.emplace_back(Clock::now(), std::move(piece)); });
  if (asked->taken) return;
  until_it_can([&] { boost::asio::post(workers_->writing, [this, asked] { take(asked); }); });
  asked->taken = true;
}

std::optional<HttpResponse> Service::unavailable(const std::string& path) {
  switch (state_.load()) {
    case State::ready:
      return std::nullopt;
    case State::loading:
      metrics_.refused("loading");
      return response(busy("the model is being loaded; ask again soon", "loading"), path);
    case State::draining:
      metrics_.refused("draining");
      return response(busy("the server is ending; ask another, or again soon", "draining"), path);
    case State::failed:
      break;
  }
  metrics_.refused("failed");
  const std::lock_guard lock(mutex_);
  return response(busy(why_failed_, "failed"), path);
}

HttpResponse Service::response(const api::Failure& failure, const std::string& path) {
  HttpResponse response{.status = failure.status,
                        .body = text_of(path.starts_with("/v1/messages") ? api::messages_error(failure) : failure.body)};
  if (failure.status == 503 || failure.status == 429) {
    const bool ready = state_ == State::ready;
    response.headers.emplace_back("Retry-After", std::to_string(ready ? scheduler_->retry_after() : 1));
  }
  if (failure.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (failure.status == 504) response.headers.emplace_back("x-should-retry", "false");
  return response;
}

HttpResponse Service::error(int status, const std::string& message, const std::string& code, const std::string& path) {
  return response(api::failure(status, message, code), path);
}

std::optional<HttpResponse> Service::refuse(const HttpRequest& head) {
  const Entry* const entry = find(head.path);
  const bool open = entry && entry->open;
  if (!open && !options_.keys.empty() && !options_.keys.name_of(head.header("authorization"), head.header("x-api-key"))) {
    metrics_.refused("key");
    return error(401, "no key that is known here; give one as Authorization: Bearer KEY or x-api-key: KEY", "invalid_api_key", head.path);
  }
  if (!entry) {
    metrics_.refused("path");
    return error(404,
                 "there is no such path here; there are /v1/models, /v1/completions, /v1/chat/completions, /v1/responses, /v1/messages, "
                 "/v1/messages/count_tokens, /tokenize, /detokenize, /tokenizer_info, /health, /ready, /version and /metrics",
                 "not_found", head.path);
  }
  if (head.method != entry->method) {
    metrics_.refused("method");
    HttpResponse response = error(405, message("this path takes ", entry->method, " alone"), "method_not_allowed", head.path);
    response.headers.emplace_back("Allow", entry->method == "GET" ? "GET, HEAD" : "POST");
    return response;
  }
  return entry->method == "POST" || head.path.starts_with("/v1/models") || head.path == "/tokenizer_info" ? unavailable(head.path)
                                                                                                          : std::nullopt;
}

void Service::handle(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  const std::lock_guard lock(closing_);
  if (is_closed_) return exchange->respond(answer(request));  // nobody works any more
  const Entry& entry = *find(request.path);
  std::string key =
      options_.keys.empty() ? "" : options_.keys.name_of(request.header("authorization"), request.header("x-api-key")).value_or("");
  if (entry.route) return ask(*entry.route, std::move(request), std::move(exchange), std::move(key));
  boost::asio::post(workers_->writing, [this, request = std::move(request), exchange = std::move(exchange)] {
    try {
      exchange->respond(answer(request));
    } catch (const std::exception& error) {
      until_it_can([&] { exchange->fail(response(api::failure(error), request.path), ""); });
    }
  });
}

HttpResponse Service::answer(const HttpRequest& request) {
  const std::string& path = request.path;
  if (path == "/health") {
    if (state_ != State::failed) return {.body = R"({"status": "ok"})"};
    const std::lock_guard lock(mutex_);
    return response(busy(why_failed_, "failed"), path);
  }
  if (path == "/ready") {
    if (auto unready = unavailable(path)) return std::move(*unready);
    return {.body = R"({"status": "ready"})"};
  }
  if (path == "/version") return {.body = text_of({{"version", TESSERA_VERSION}})};
  if (path == "/metrics") {
    const bool loaded = !is_closed_ && scheduler_ != nullptr && state_ != State::loading;
    return {.body = metrics_.text(loaded ? model_->name() : "", loaded ? scheduler_->counts() : Scheduler::Counts(),
                                  refusals_ ? refusals_() : std::map<std::string, int64_t>()),
            .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (auto unready = unavailable(path)) return std::move(*unready);
  const auto posted = [&] { return parse_json(request.body, "the body", {.max_bytes = kMostBodyBytes}); };
  const auto object = [](const JsonDocument& document) {
    const auto found = json_as<JsonObject>(document.root());
    check(found.has_value(), "the body must be a JSON object");
    return *found;
  };
  if (path == "/tokenize") {
    const JsonDocument body = posted();
    return {.body = text_of(model_->tokenize(object(body)))};
  }
  if (path == "/detokenize") {
    const JsonDocument body = posted();
    return {.body = text_of(model_->detokenize(object(body)))};
  }
  if (path == "/v1/messages/count_tokens") {
    const JsonDocument body = posted();
    return {.body = text_of(model_->count_tokens(object(body)))};
  }
  if (path == "/tokenizer_info") return {.body = text_of(model_->tokenizer_info())};
  if (path == "/v1/models") return {.body = text_of(api::model_list(*model_))};
  return {.body = text_of(api::model_entry(*model_, path.substr(std::string_view("/v1/models/").size())))};
}

void Service::ask(api::Route route, HttpRequest request, std::shared_ptr<Exchange> exchange, std::string key) {
  const auto asked = std::make_shared<Asked>();
  asked->route = route;
  asked->path = request.path;
  asked->key = std::move(key);
  asked->exchange = std::move(exchange);
  {
    std::unique_lock lock(mutex_);
    int64_t& of_key = of_key_[asked->key];
    if (options_.most_of_a_key > 0 && of_key >= options_.most_of_a_key) {
      lock.unlock();
      metrics_.refused("limit");
      return asked->exchange->respond(
          error(429, message("this key has ", options_.most_of_a_key, " requests running, as many as it may; ask when one has ended"),
                "rate_limit_exceeded", asked->path));
    }
    ++of_key;
    asked->number = ++last_;
    running_[asked->number] = asked;
  }
  try {
    asked->exchange->on_gone([asked] {
      std::shared_ptr<api::Answering> answering;
      {
        const std::lock_guard lock(asked->mutex);
        asked->gone = true;
        answering = asked->answering;
      }
      if (answering) answering->cancel();
    });
    boost::asio::post(workers_->writing, [this, asked, request = std::move(request)] { prepare(asked, request); });
  } catch (const std::exception& error) {
    fail(asked, error);
  }
}

void Service::prepare(const std::shared_ptr<Asked>& asked, const HttpRequest& request) {
  try {
    const JsonDocument body = parse_json(request.body, "the body", {.max_bytes = kMostBodyBytes});
    const auto object = json_as<JsonObject>(body.root());
    check(object.has_value(), "the body must be a JSON object");
    const auto timeout_after = [&](Clock::duration longest) { return longest - (Clock::now() - asked->arrived); };
    std::shared_ptr<api::Answering> answering = model_->prepare(asked->route, *object,
                                                                {.name = asked->key,
                                                                 .salt = options_.keys.size() > 1 ? asked->key : "",
                                                                 .queue_timeout = timeout_after(options_.queue_timeout),
                                                                 .timeout = timeout_after(options_.request_timeout)});
    {
      const std::lock_guard lock(asked->mutex);
      asked->answering = std::move(answering);
    }
    if (asked->answering->stream()) asked->exchange->expect_stream();
    if (!asked->answering->format()) return submit(asked);
    boost::asio::post(workers_->waiting, [this, asked] {
      try {
        asked->answering->constrain(model_->compile(*asked->answering->format(), asked->key));
        submit(asked);
      } catch (const std::exception& error) {
        fail(asked, error);
      }
    });
  } catch (const std::exception& error) {
    fail(asked, error);
  }
}

void Service::submit(const std::shared_ptr<Asked>& asked) {
  if (const auto unready = unavailable(asked->path)) {
    end(asked, unready->status, "refused");
    return asked->exchange->fail(*unready, "");
  }
  bool gone;
  {
    const std::lock_guard lock(asked->mutex);
    gone = asked->gone;
    asked->submitted = true;
  }
  if (gone) return end(asked, 499, "abort");
  try {
    asked->answering->submit(*scheduler_, [this, asked](api::AnswerPiece piece) { push(asked, std::move(piece)); });
  } catch (const QueueFull& error) {
    metrics_.refused("queue");
    fail(asked, busy(error.what(), "queue_full"), "error");
  } catch (const std::exception& error) {
    fail(asked, error);
  }
}

void Service::take(const std::shared_ptr<Asked>& asked) {
  try {
    for (;;) {
      std::deque<std::pair<Clock::time_point, api::AnswerPiece>> pieces;
      {
        const std::lock_guard lock(asked->mutex);
        if (asked->pieces.empty() || asked->ended) {
          asked->taken = false;
          return;
        }
        pieces.swap(asked->pieces);
      }
      api::Answering& answering = *asked->answering;
      std::string events;
      for (auto& [time, piece] : pieces) {
        note_token(*asked, time, piece);
        answering.complete(piece);
        if (!answering.stream()) answering.append(piece);
        if (answering.stream() && !piece.error) events += answering.writer().events(piece.delta, piece.usage);
        if (!piece.last) continue;
        if (!events.empty()) asked->exchange->send(std::move(events));
        return take_last(asked, piece);
      }
      if (!events.empty()) asked->exchange->send(std::move(events));
    }
  } catch (const std::exception& error) {
    asked->answering->cancel();
    fail(asked, error);
  }
}

void Service::note_token(Asked& asked, Clock::time_point time, const api::AnswerPiece& piece) {
  const std::lock_guard lock(asked.mutex);
  asked.times.prompt_tokens = piece.usage.prompt_tokens;
  asked.times.cached_tokens = piece.usage.cached_tokens;
  asked.times.queued = seconds(piece.queued);
  if (piece.usage.completion_tokens == asked.times.new_tokens) return;
  asked.times.new_tokens = piece.usage.completion_tokens;
  if (asked.times.first_token == 0) asked.times.first_token = seconds(time - asked.arrived);
  if (asked.last_tokens.size() <= piece.delta.choice) asked.last_tokens.resize(piece.delta.choice + 1);
  Clock::time_point& last = asked.last_tokens[piece.delta.choice];
  if (last != Clock::time_point()) metrics_.token_gap(seconds(time - last));
  last = time;
}

void Service::take_last(const std::shared_ptr<Asked>& asked, const api::AnswerPiece& piece) {
  api::Answering& answering = *asked->answering;
  if (piece.error) {
    try {
      std::rethrow_exception(piece.error);
    } catch (const std::exception& error) {
      return fail(asked, error);
    }
  }
  if (piece.reason == FinishReason::timeout)
    return fail(asked,
                api::failure(asked->times.new_tokens > 0 ? 504 : 503,
                             "the request took longer than it may; ask for fewer tokens, or again when less is asked here", "timeout"),
                "abort");
  if (piece.reason == FinishReason::cancelled) return fail(asked, busy("the request was cancelled", "cancelled"), "abort");
  const bool stream = answering.stream();
  std::string last =
      stream ? answering.writer().last_events(piece.usage) : text_of(answering.writer().body(answering.choices(), piece.usage));
  end(asked, 200, piece.reason == FinishReason::length ? "length" : "stop");
  if (!stream) return asked->exchange->respond({.body = std::move(last)});
  asked->exchange->send(last);
  asked->exchange->finish();
}

void Service::fail(const std::shared_ptr<Asked>& asked, const std::exception& error) {
  until_it_can([&] { fail(asked, api::failure(error), "error"); });
}

void Service::fail(const std::shared_ptr<Asked>& asked, const api::Failure& failure, const std::string& reason) {
  std::shared_ptr<api::Answering> answering;
  bool gone;
  {
    const std::lock_guard lock(asked->mutex);
    answering = asked->answering;
    gone = asked->gone;
  }
  HttpResponse whole = response(failure, asked->path);
  const std::string events = answering && answering->stream() ? answering->writer().error_events(failure) : "";
  if (answering) answering->cancel();
  end(asked, gone ? 499 : failure.status, gone ? "abort" : reason);
  asked->exchange->fail(std::move(whole), events);
}

// Before the client has the last of its answer: who has it may ask anew, and finds it counted.
void Service::end(const std::shared_ptr<Asked>& asked, int status, const std::string& reason) {
  {
    const std::lock_guard lock(asked->mutex);
    if (std::exchange(asked->ended, true)) return;
    asked->pieces.clear();
  }
  try {
    note_end(*asked, status, reason);
  } catch (const std::bad_alloc&) {  // then it is not told
  }
  const std::lock_guard lock(mutex_);
  running_.erase(asked->number);
  if (const auto of_key = of_key_.find(asked->key); --of_key->second == 0) of_key_.erase(of_key);
  if (running_.empty()) idle_.notify_all();
}

void Service::note_end(Asked& asked, int status, const std::string& reason) {
  RequestTimes times;
  std::string id = message("request-", asked.number);
  {
    const std::lock_guard lock(asked.mutex);
    times = asked.times;
    if (asked.answering) {
      id = asked.answering->id();
      times.n = static_cast<int64_t>(asked.answering->choices().size());
      times.max_tokens = asked.answering->max_new_tokens();
    }
  }
  times.total = seconds(Clock::now() - asked.arrived);
  if (status == 499) metrics_.cancelled();
  if (reason != "refused") metrics_.ended(reason, times);
  char numbers[200];
  std::snprintf(numbers, sizeof numbers, "%lld prompt (%lld cached), %lld new tokens; queued %.3f, first token %.3f, all %.3f s",
                static_cast<long long>(times.prompt_tokens), static_cast<long long>(times.cached_tokens),
                static_cast<long long>(times.new_tokens), times.queued, times.first_token, times.total);
  options_.log(message(id, " ", asked.path, asked.key.empty() ? "" : " key ", asked.key, " ", status, " ", reason, ": ", numbers));
}

}  // namespace tessera::server

#include "server/service.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "api/fields.h"
#include "api/messages.h"
#include "api/models.h"
#include "core/error.h"
#include "server/page.h"
#include "server/service_parts.h"

namespace tessera::server {

api::Failure busy(const std::string& message, const std::string& code) { return api::failure(503, message, code); }

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
  static const Entry kPage{"", "GET", true};
  if (find_page(path)) return &kPage;
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
  for (State from : {State::ready, State::loading}) state_.compare_exchange_strong(from, State::draining);
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
    std::exception_ptr error = std::make_exception_ptr(ResourceError(why));  // whose text none of this thread's shares any more
    push(asked, {.delta = {}, .last = true, .error = std::move(error)});
  }
}

std::optional<HttpResponse> Service::unavailable(const std::string& path) {
  const auto because = [&](const std::string& why, const char* code) {
    if (path != "/ready") metrics_.refused(code);  // which is asked to know just that
    return response(busy(why, code), path);
  };
  switch (state_.load()) {
    case State::ready:
      return std::nullopt;
    case State::loading:
      return because("the model is being loaded; ask again soon", "loading");
    case State::draining:
      return because("the server is ending; ask another, or again soon", "draining");
    case State::failed:
      break;
  }
  const std::lock_guard lock(mutex_);
  return because(why_failed_, "failed");
}

HttpResponse Service::response(const api::Failure& failure, const std::string& path) {
  HttpResponse response{.status = failure.status,
                        .body = api::dumped(path.starts_with("/v1/messages") ? api::messages_error(failure) : failure.body)};
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

std::optional<std::string> Service::key_of(const HttpRequest& head) const {
  if (options_.keys.empty()) return "";
  return options_.keys.name_of(head.header("authorization"), head.header("x-api-key"));
}

std::optional<HttpResponse> Service::refuse(const HttpRequest& head) {
  const Entry* const entry = find(head.path);
  const bool open = entry && entry->open;
  if (!open && !key_of(head)) {
    metrics_.refused("key");
    return error(401, "no key that is known here; give one as Authorization: Bearer KEY or x-api-key: KEY", "invalid_api_key", head.path);
  }
  if (!entry) {
    metrics_.refused("path");
    return error(404,
                 "there is no such path here; there are /v1/models, /v1/completions, /v1/chat/completions, /v1/responses, /v1/messages, "
                 "/v1/messages/count_tokens, /tokenize, /detokenize, /tokenizer_info, /health, /ready, /version, /metrics, and pages at / "
                 "and /status",
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
  if (entry.open) return exchange->respond(answer(request));
  if (entry.route) return ask(*entry.route, std::move(request), std::move(exchange));
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
  if (const PageFile* const page = find_page(path)) return page_response(*page, request);
  if (path == "/health") {
    if (state_ != State::failed) return {.body = R"({"status": "ok"})"};
    const std::lock_guard lock(mutex_);
    return response(busy(why_failed_, "failed"), path);
  }
  if (path == "/ready") {
    if (auto unready = unavailable(path)) return std::move(*unready);
    return {.body = R"({"status": "ready"})"};
  }
  if (path == "/version") return {.body = api::dumped({{"version", TESSERA_VERSION}})};
  if (path == "/metrics") {
    const bool loaded = !is_closed_ && scheduler_ != nullptr && state_ != State::loading;
    return {.body = metrics_.text(loaded ? model_->name() : "", loaded ? scheduler_->counts() : Scheduler::Counts(),
                                  loaded ? scheduler_->cache_usage() : 0, refusals_ ? refusals_() : std::map<std::string, int64_t>()),
            .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (auto unready = unavailable(path)) return std::move(*unready);
  const auto posted = [&](api::Json (api::ServedModel::*make)(JsonObject) const) {
    const JsonDocument body = api::parse_body(request.body);
    return HttpResponse{.body = api::dumped((model_->*make)(*json_as<JsonObject>(body.root())))};
  };
  if (path == "/tokenize") return posted(&api::ServedModel::tokenize);
  if (path == "/detokenize") return posted(&api::ServedModel::detokenize);
  if (path == "/v1/messages/count_tokens") return posted(&api::ServedModel::count_tokens);
  if (path == "/tokenizer_info") return {.body = api::dumped(model_->tokenizer_info())};
  if (path == "/v1/models") return {.body = api::dumped(api::model_list(*model_))};
  return {.body = api::dumped(api::model_entry(*model_, path.substr(std::string_view("/v1/models/").size())))};
}

}  // namespace tessera::server

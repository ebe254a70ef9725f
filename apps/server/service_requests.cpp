#include <boost/asio/post.hpp>
#include <cstdio>

#include "api/fields.h"
#include "core/error.h"
#include "server/service_parts.h"

namespace tessera::server {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void Service::ask(api::Route route, HttpRequest request, std::shared_ptr<Exchange> exchange) {
  const auto asked = std::make_shared<Asked>();
  asked->route = route;
  asked->path = request.path;
  asked->key = key_of(request).value_or("");
  asked->request = std::move(request);
  asked->exchange = std::move(exchange);
  {
    std::unique_lock lock(mutex_);
    const auto of_key = of_key_.try_emplace(asked->key, 0).first;
    if (options_.most_of_a_key > 0 && of_key->second >= options_.most_of_a_key) {
      lock.unlock();
      metrics_.refused("limit");
      return asked->exchange->respond(
          error(429, message("this key has ", options_.most_of_a_key, " requests running, as many as it may; ask when one has ended"),
                "rate_limit_exceeded", asked->path));
    }
    asked->number = ++last_;
    running_[asked->number] = asked;
    ++of_key->second;
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
    work(workers_->writing, &Service::prepare, asked);
  } catch (const std::exception& error) {
    until_it_can([&] { fail(asked, api::failure(error), "error"); });
  }
}

void Service::prepare(const std::shared_ptr<Asked>& asked) {
  std::shared_ptr<api::Answering> answering;
  {
    const HttpRequest request = std::move(asked->request);
    const JsonDocument body = api::parse_body(request.body);
    const auto timeout_after = [&](Clock::duration longest) { return longest - (Clock::now() - asked->arrived); };
    answering = model_->prepare(asked->route, *json_as<JsonObject>(body.root()),
                                {.name = asked->key,
                                 .salt = options_.keys.size() > 1 ? asked->key : "",
                                 .queue_timeout = timeout_after(options_.queue_timeout),
                                 .timeout = timeout_after(options_.request_timeout)});
  }
  {
    const std::lock_guard lock(asked->mutex);
    asked->answering = answering;
  }
  if (answering->stream()) asked->exchange->expect_stream({{"X-Request-Id", answering->id()}});
  if (!answering->format()) return submit(asked);
  work(workers_->waiting, &Service::constrain, asked);
}

void Service::constrain(const std::shared_ptr<Asked>& asked) {
  asked->answering->constrain(model_->compile(*asked->answering, asked->key));
  submit(asked);
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
  }
}

void Service::take(const std::shared_ptr<Asked>& asked) {
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
      if (!events.empty()) asked->exchange->send(events);
      return take_last(asked, piece);
    }
    if (!events.empty()) asked->exchange->send(events);
  }
}

void Service::note_token(Asked& asked, Clock::time_point time, const api::AnswerPiece& piece) {
  if (piece.usage.prompt_tokens == 0) return;  // end_all's
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
    } catch (const DeviceError&) {  // what it says is for who has the machine
      return fail(asked, busy("the device does not answer any more; the server is ending", "failed"), "error");
    } catch (const std::exception& error) {
      return fail(asked, api::failure(error), "error");
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
      stream ? answering.writer().last_events(piece.usage) : api::dumped(answering.writer().body(answering.choices(), piece.usage));
  end(asked, 200, piece.reason == FinishReason::length ? "length" : "stop");
  if (!stream) return asked->exchange->respond({.body = std::move(last), .headers = {{"X-Request-Id", answering.id()}}});
  asked->exchange->send(last);
  asked->exchange->finish();
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
  leave(*asked);
  try {
    note_end(*asked, status, reason);
  } catch (const std::bad_alloc&) {  // then it is not told
  }
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

void Service::leave(const Asked& asked) {
  const std::lock_guard lock(mutex_);
  running_.erase(asked.number);
  if (const auto of_key = of_key_.find(asked.key); --of_key->second == 0) of_key_.erase(of_key);
  if (running_.empty()) idle_.notify_all();
}

// Every piece comes, the last above all: the request would never end without it.
void Service::push(const std::shared_ptr<Asked>& asked, api::AnswerPiece piece) {
  const std::lock_guard lock(asked->mutex);
  if (asked->ended) return;
  until_it_can([&] { asked->pieces.emplace_back(Clock::now(), std::move(piece)); });
  if (asked->taken) return;
  until_it_can([&] { work(workers_->writing, &Service::take, asked); });
  asked->taken = true;
}

// A step of a request's way, on a pool. What fails is its answer.
void Service::work(boost::asio::thread_pool& pool, void (Service::*step)(const std::shared_ptr<Asked>&),
                   const std::shared_ptr<Asked>& asked) {
  boost::asio::post(pool, [this, step, asked]() noexcept {
    try {
      (this->*step)(asked);
    } catch (const std::exception& error) {
      until_it_can([&] { fail(asked, api::failure(error), "error"); });
    }
  });
}

}  // namespace tessera::server

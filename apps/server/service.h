#pragma once
// The routes of `tessera serve`: OpenAI's and Anthropic's APIs over a ServedModel and its Scheduler.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "api/answering.h"
#include "generate/scheduler.h"
#include "server/api_keys.h"
#include "server/http_server.h"
#include "server/metrics.h"

namespace boost::asio {
class thread_pool;
}  // namespace boost::asio

namespace tessera::server {

struct ServiceOptions {
  ApiKeys keys;                                                                  // none: everybody is answered
  int64_t most_of_a_key = 0;                                                     // requests of a key at a time; 0: as many as there are
  std::chrono::seconds request_timeout{600}, queue_timeout{600};                 // in all; before it first runs
  std::function<void(const std::string& line)> log = [](const std::string&) {};  // from any thread
};

// Answers requests. It is loading until open(), and ready then; drain() lets what runs come to its end.
class Service : public HttpHandler {
 public:
  explicit Service(ServiceOptions options);
  ~Service() override;

  // The model is loaded: requests are taken. Both must outlive what is answered.
  void open(api::ServedModel& model, Scheduler& scheduler);
  // What HTTP itself has refused, for /metrics.
  void count_refusals(std::function<std::map<std::string, int64_t>()> refusals) { refusals_ = std::move(refusals); }

  // No new requests.
  void drain();
  // The same, for good: /health says so, and all that runs is answered with `why`.
  void fail(const std::string& why);
  // Waits until nothing runs; false: it still does.
  bool wait_until_idle(std::chrono::milliseconds longest);
  // Ends what runs with an error.
  void end_all(const std::string& why);
  // Waits for what is being parsed or written: nothing looks at the model or the scheduler any more. Whoever asks is told so.
  void close();

  std::optional<HttpResponse> refuse(const HttpRequest& head) override;
  void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) override;
  HttpResponse error(int status, const std::string& message, const std::string& code, const std::string& path) override;

 private:
  enum class State { loading, ready, draining, failed };
  struct Asked;
  struct Entry;
  struct Workers;
  static const Entry* find(std::string_view path);

  std::optional<HttpResponse> unavailable(const std::string& path);
  // The name of the key that it gives, "" where there are no keys; nullopt: none that is known.
  std::optional<std::string> key_of(const HttpRequest& head) const;
  void ask(api::Route route, HttpRequest request, std::shared_ptr<Exchange> exchange);
  void work(boost::asio::thread_pool& pool, void (Service::*step)(const std::shared_ptr<Asked>&), const std::shared_ptr<Asked>& asked);
  void prepare(const std::shared_ptr<Asked>& asked);
  void constrain(const std::shared_ptr<Asked>& asked);
  void submit(const std::shared_ptr<Asked>& asked);
  void push(const std::shared_ptr<Asked>& asked, api::AnswerPiece piece);
  void take(const std::shared_ptr<Asked>& asked);
  void note_token(Asked& asked, std::chrono::steady_clock::time_point time, const api::AnswerPiece& piece);
  void take_last(const std::shared_ptr<Asked>& asked, const api::AnswerPiece& piece);
  void fail(const std::shared_ptr<Asked>& asked, const api::Failure& failure, const std::string& reason);
  void end(const std::shared_ptr<Asked>& asked, int status, const std::string& reason);
  void note_end(Asked& asked, int status, const std::string& reason);
  void leave(const Asked& asked);
  HttpResponse response(const api::Failure& failure, const std::string& path);
  HttpResponse answer(const HttpRequest& request);

  ServiceOptions options_;
  Metrics metrics_;
  std::function<std::map<std::string, int64_t>()> refusals_;
  std::atomic<State> state_ = State::loading;
  std::string why_failed_;
  api::ServedModel* model_ = nullptr;
  Scheduler* scheduler_ = nullptr;

  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<uint64_t, std::shared_ptr<Asked>> running_;
  std::unordered_map<std::string, int64_t> of_key_;
  uint64_t last_ = 0;
  std::unique_ptr<Workers> workers_;
  std::mutex closing_;  // held while a request is handed to the workers
  std::atomic<bool> is_closed_ = false;
};

}  // namespace tessera::server

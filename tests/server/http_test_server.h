#pragma once
// A server whose answers the test gives: GET /health is "well", POST /echo is its body, POST /held is what the test does with its exchange.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "http_client.h"
#include "server/http_server.h"

namespace tessera::server {

// Whether `condition` comes true while one may wait for it.
template <class Condition>
bool comes(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class TestHandler : public HttpHandler {
 public:
  std::optional<HttpResponse> refuse(const HttpRequest& head) override {
    if (head.header("authorization") == "wrong") return HttpResponse{.status = 401, .body = "no"};
    if (head.path == "/health" && head.method == "GET") return std::nullopt;
    if ((head.path == "/echo" || head.path == "/held" || head.path == "/lost" || head.path == "/throws") && head.method == "POST") {
      return std::nullopt;
    }
    return HttpResponse{.status = head.path == "/health" ? 405 : 404, .body = "refused"};
  }
  void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) override {
    if (request.path == "/throws") throw std::runtime_error("at once");
    if (request.path == "/lost") return;
    if (request.path == "/health") return exchange->respond({.body = "well", .headers = {{"X-Query", request.query}}});
    if (request.path == "/echo") return exchange->respond({.body = std::move(request.body)});
    const std::lock_guard lock(mutex_);
    held_.push_back(std::move(exchange));
    came_.notify_all();
  }
  HttpResponse error(int status, const std::string& message, const std::string& code, const std::string&) override {
    return {.status = status, .body = code + ": " + message, .content_type = "text/plain"};
  }

  // The next exchange of /held.
  std::shared_ptr<Exchange> held() {
    auto exchange = next(kPatience);
    if (!exchange) throw std::runtime_error("no request came");
    return exchange;
  }
  // nullptr if none comes.
  std::shared_ptr<Exchange> next(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    if (!came_.wait_for(lock, patience, [&] { return !held_.empty(); })) return nullptr;
    auto exchange = std::move(held_.front());
    held_.pop_front();
    return exchange;
  }

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::shared_ptr<Exchange>> held_;
};

class TestServer {
 public:
  explicit TestServer(HttpOptions options = {})
      : server_(with_free_port(std::move(options)), handler), thread_([this] { server_.run(); }) {}
  ~TestServer() {
    stop(std::chrono::milliseconds(0));
    join();
  }

  HttpClient client() const { return HttpClient(server_.port()); }
  int port() const { return server_.port(); }
  void stop(std::chrono::milliseconds grace) { server_.stop(grace); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  HttpCounts counts() const { return server_.counts(); }
  int64_t refused(const std::string& code) const {
    const HttpCounts now = counts();
    const auto found = now.refused.find(code);
    return found == now.refused.end() ? 0 : found->second;
  }

  TestHandler handler;

 private:
  static HttpOptions with_free_port(HttpOptions options) {
    options.port = 0;
    return options;
  }

  HttpServer server_;
  std::thread thread_;
};

}  // namespace tessera::server

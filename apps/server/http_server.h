#pragma once
// HTTP/1.1 and 1.0 over TCP, for an API that answers JSON and server-sent events. What Beast would let pass and what may be smuggling, and
// a web page of a stranger's, is refused here; routes, keys and bodies are the handler's.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http_message.h"

namespace tessera::server {

struct HttpLimits {
  size_t header_bytes = 8192;                // the request line and all header lines: 431, and 414 where the request line alone has more
  int header_lines = 100;                    // 431
  size_t body_bytes = 8 << 20;               // 413
  size_t bodies_bytes = 256 << 20;           // of all requests that are being read or were not taken yet: 503
  size_t held_bytes = 1 << 20;               // of a stream and not yet taken by the client: then it is too slow, and gone
  int64_t connections = 16384;               // 503 for one more
  std::chrono::milliseconds header{10'000};  // from a request's first byte to its headers' end: 408
  std::chrono::milliseconds body{60'000};    // from there to the body's end: 408
  std::chrono::milliseconds idle{75'000};    // of a connection without a request
  std::chrono::milliseconds ping{15'000};    // of silence in a stream
  std::chrono::milliseconds write{60'000};   // for a client to take anything of what it is sent
  std::chrono::milliseconds linger{2'000};   // for a client to read why the body that it still sends is refused
};

struct HttpOptions {
  std::string address = "127.0.0.1";  // IPv4 or IPv6, no name
  int port = 8000;                    // 0: any that is free
  int threads = 1;
  HttpLimits limits = {};
  // Whether Host must name this machine's loopback (localhost, 127.0.0.1, [::1]) or one of allowed_hosts, with any port: 403. It keeps
  // web pages from reaching a server without keys by a name that they have resolve to it.
  bool check_hosts = true;
  std::vector<std::string> allowed_hosts = {};                      // whole names
  std::vector<std::string> any_host_paths = {"/health", "/ready"};  // that take any Host
  std::vector<std::string> cors_origins = {};                       // scheme://authority: whose web pages may call; all others' are 403
};

// One request that is being answered, from any threads; nothing here waits. Destroyed without an answer it is one of 500.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // The whole answer. Not after expect_stream() or send(): std::logic_error.
  virtual void respond(HttpResponse response) = 0;

  // text/event-stream will come, with these headers. After limits.ping of silence the status line is sent with a comment, ": ping", and
  // another after each such time.
  virtual void expect_stream(HttpFields headers = {}) = 0;
  // Events, as they are to be written: soon, and in one write, with whatever else has come by then. The status line goes before the first.
  // False if the client is gone or too slow: nothing more needs to be sent.
  virtual bool send(std::string_view events) = 0;
  // The stream's end.
  virtual void finish() = 0;
  // The end by an error: `whole` where nothing was sent yet, else `events`, and the connection is closed.
  virtual void fail(HttpResponse whole, std::string_view events) = 0;

  // `gone` is called once, from any thread, when the client is gone, or too slow; at once if it is so already; not after the answer's end.
  virtual void on_gone(std::function<void()> gone) = 0;
};

// Called from the I/O threads, several at a time: nothing here may wait or take long.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;

  // Before the body is read: 401, 404, 405, 503. The connection is closed behind it if there is a body.
  virtual std::optional<HttpResponse> refuse(const HttpRequest& head) = 0;
  virtual void handle(HttpRequest request, std::shared_ptr<Exchange> exchange) = 0;
  // What HTTP's own rules refuse, as the API says it; the code is an HttpError's. The path is "" where it is not known.
  virtual HttpResponse error(int status, const std::string& message, const std::string& code, const std::string& path) = 0;
};

struct HttpCounts {
  int64_t connections = 0;                 // now
  std::map<std::string, int64_t> refused;  // by HttpError's code, and "slow_reader"
};

class HttpServer {
 public:
  // Listens from here on: connections wait until run(). The handler outlives it. Raises the process's limit of open files to what it may
  // be. std::invalid_argument for options that cannot be, std::runtime_error for an address or port that the system does not give.
  HttpServer(const HttpOptions& options, HttpHandler& handler);
  ~HttpServer();  // run() has returned
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  // Serves on this thread, and on options.threads - 1 more, until stop().
  void run();
  // From any thread, and returns at once: no connection is accepted any more, those without an exchange are closed, others behind its end;
  // after `grace` all are.
  void stop(std::chrono::milliseconds grace);
  HttpCounts counts() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tessera::server

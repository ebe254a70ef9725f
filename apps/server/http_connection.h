#pragma once
// Only for http_server.cpp and http_connection.cpp: Asio takes long to compile.
#include <atomic>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <coroutine>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "server/http_answer.h"
#include "server/http_reader.h"
#include "server/http_server.h"

namespace tessera::server {

namespace asio = boost::asio;
using boost::system::error_code;
using Clock = HttpAnswer::Clock;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Executor>;
using Timer = asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, Executor>;

class Connection;

// The connections of a server and what they share. From any thread.
struct Connections {
  Connections(const HttpOptions& given, HttpHandler& its_handler) : options(given), handler(its_handler) {}

  void add(Connection* connection);
  void remove(Connection* connection);
  std::vector<std::shared_ptr<Connection>> all();
  void count(const std::string& code);
  size_t size();
  HttpCounts counts();
  void set_when_empty(std::function<void()> when_empty);  // called when the last is removed while is_stopping

  const HttpOptions options;
  HttpHandler& handler;
  const std::shared_ptr<std::atomic<size_t>> body_bytes = std::make_shared<std::atomic<size_t>>(0);  // of all that are held
  std::atomic<bool> is_stopping = false;

 private:
  std::mutex mutex_;
  std::function<void()> when_empty_;
  std::unordered_set<Connection*> connections_;
  std::map<std::string, int64_t> refused_;
};

// Counts a body among all while it lives.
class HeldBody {
 public:
  explicit HeldBody(std::shared_ptr<std::atomic<size_t>> all) : all_(std::move(all)) {}
  ~HeldBody() { *all_ -= bytes_; }
  HeldBody(const HeldBody&) = delete;
  HeldBody& operator=(const HeldBody&) = delete;
  // Returns how many bytes all have with these.
  size_t add(size_t bytes) {
    bytes_ += bytes;
    return *all_ += bytes;
  }

 private:
  std::shared_ptr<std::atomic<size_t>> all_;
  size_t bytes_ = 0;
};

// A client's connection: a coroutine reads requests and writes answers, and is resumed whenever something has changed. A read is always
// awaited, which tells of the client's end. All on one thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Connections& server, Socket socket) : server_(server), socket_(std::move(socket)) { server_.add(this); }
  ~Connection();

  void start();
  void look_up();  // from any thread: something has changed
  void give_up();  // on its thread, or when that has ended

 private:
  // Not Asio's awaitable: that one must allocate to be destroyed, and ends the process where it cannot.
  struct Routine {
    struct promise_type {
      Routine get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
      std::suspend_never initial_suspend() noexcept { return {}; }
      std::suspend_always final_suspend() noexcept { return {}; }
      void return_void() {}
      void unhandled_exception() { throw; }
    };
    std::coroutine_handle<promise_type> handle;
  };
  // Until resume(), or that time.
  struct Wait {
    Connection& connection;
    Clock::time_point until;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> routine) { connection.suspend(routine, until); }
    void await_resume() const noexcept {}
  };
  struct Closed {};  // thrown: no more is to be read or written

  Routine serve();
  void suspend(std::coroutine_handle<> routine, Clock::time_point until);
  void resume();

  // The coroutine's steps: what can be done without waiting.
  bool has_input(Clock::time_point deadline);
  bool reads(HttpReader& reader, bool (HttpReader::*done)() const, Clock::time_point deadline);
  void hold(size_t bytes);
  std::optional<HttpResponse> look_at_head(HttpReader& reader);
  HttpResponse refusal(const HttpError& error, const HttpReader& reader);
  void answer(HttpReader& reader, std::optional<HttpResponse> refusal, bool is_read);
  bool delivers(Clock::time_point& until);
  bool writes(Clock::time_point& until);
  bool lingers(Clock::time_point deadline);

  void watch();
  void watch_for_reset();
  void take_input();
  void close();

  const HttpLimits& limits() const { return server_.options.limits; }

  Connections& server_;
  Socket socket_;
  Timer alarm_{socket_.get_executor()};
  std::coroutine_handle<> routine_, suspended_;
  std::string in_;                      // bytes that came and are not yet of a request
  std::shared_ptr<HeldBody> body_;      // of the request that is being read
  std::shared_ptr<HttpAnswer> answer_;  // of the request that is being answered
  std::string out_;                     // of the answer
  size_t written_ = 0;                  // of out_
  Clock::time_point write_deadline_;
  std::atomic<bool> is_looking_up_ = false;
  bool watches_ = false, watches_for_reset_ = false, watches_for_room_ = false;
  bool has_ended_ = false;  // the client sends no more
  bool is_gone_ = false;    // it does not read either, or the socket is closed
};

}  // namespace tessera::server

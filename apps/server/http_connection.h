#pragma once
// Only for http_server.cpp and http_connection.cpp: Asio takes long to compile.
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
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
using Strand = asio::strand<asio::io_context::executor_type>;
using Socket = asio::basic_stream_socket<asio::ip::tcp, Strand>;
using Timer = asio::basic_waitable_timer<Clock, asio::wait_traits<Clock>, Strand>;
template <class T>
using Awaitable = asio::awaitable<T, Strand>;

inline auto into(error_code& error) { return asio::redirect_error(asio::use_awaitable_t<Strand>(), error); }

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
  std::atomic<bool> is_stopping = false;

 private:
  std::mutex mutex_;
  std::function<void()> when_empty_;
  std::unordered_set<Connection*> connections_;
  std::map<std::string, int64_t> refused_;
};

// A client's connection: one coroutine reads requests and writes answers, while a read is always awaited, which tells of the client's end.
// All on its strand.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Connections& server, Socket socket) : server_(server), socket_(std::move(socket)) { server_.add(this); }
  ~Connection() { server_.remove(this); }

  void start();
  void stop();
  void give_up();  // with no thread in the io_context

 private:
  enum class Input { bytes, end, late };
  struct Closed {};

  Awaitable<void> serve();
  Awaitable<bool> serve_one();
  Awaitable<void> read(HttpReader& reader, bool (HttpReader::*done)() const, std::chrono::milliseconds time);
  Awaitable<Input> more(Clock::time_point deadline);
  Awaitable<bool> deliver(HttpAnswer& answer);
  Awaitable<bool> write(std::string_view bytes, HttpAnswer* answer);
  Awaitable<void> linger();
  Awaitable<void> wait(Clock::time_point until);
  void watch();
  void watch_for_reset();
  void take_input();
  void wake();
  void close();

  const HttpLimits& limits() const { return server_.options.limits; }

  Connections& server_;
  Socket socket_;
  Timer changed_{socket_.get_executor()}, stall_{socket_.get_executor()};
  std::string in_;                      // bytes that came and are not yet of a request
  std::shared_ptr<HttpAnswer> answer_;  // of the request that is being answered
  std::atomic<bool> is_waking_ = false;
  bool watches_ = false, watches_for_reset_ = false;
  bool has_ended_ = false;  // the client sends no more
  bool is_gone_ = false;    // it does not read either, or the socket is closed
};

}  // namespace tessera::server

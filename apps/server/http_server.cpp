#include "server/http_server.h"

#include <sys/resource.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <thread>

#include "core/error.h"
#include "server/http_connection.h"

namespace tessera::server {
namespace {

using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Executor>;

size_t loop_count(const HttpOptions& options) {
  check(options.threads >= 1 && options.threads <= 256, "threads: ", options.threads, " is outside [1, 256]");
  return static_cast<size_t>(options.threads);
}

void raise_open_files() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& options, HttpHandler& handler) : connections(options, handler), loops(loop_count(options)) {}

  void listen();
  void accept();
  void pause();
  void admit(Socket socket);
  void stop(std::chrono::milliseconds grace);
  void stop_loops();
  void run(asio::io_context& loop);

  int port = 0;
  Connections connections;
  // One a thread, and a connection is of one: strands would have to allocate where nothing may fail.
  std::deque<asio::io_context> loops;
  size_t next_loop = 0;
  Acceptor acceptor{loops.front().get_executor()};
  Timer pause_end{loops.front().get_executor()}, grace_end{loops.front().get_executor()};
};

void HttpServer::State::listen() {
  const HttpOptions& options = connections.options;
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  check(!error, "address: \"", options.address, "\" is no IPv4 or IPv6 address");
  check(options.port >= 0 && options.port <= 65535, "port: ", options.port, " is outside [0, 65535]");
  const asio::ip::tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(Acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(Acceptor::max_listen_connections, error);
  if (!error) acceptor.non_blocking(true, error);
  check<std::runtime_error>(!error, "port ", options.port, " of ", options.address, " is not to be had: ", error.message(),
                            "; choose another");
  port = acceptor.local_endpoint().port();
}

// In two steps: where async_accept finds no memory for the socket that it has, its handler is never called.
void HttpServer::State::accept() {
  if (connections.is_stopping) return;
  try {
    acceptor.async_wait(Acceptor::wait_read, [this](error_code error) {
      try {
        Socket socket(loops[next_loop++ % loops.size()]);
        if (!error) acceptor.accept(socket, error);
        if (!error) admit(std::move(socket));
      } catch (const std::exception&) {
        error = asio::error::no_memory;
      }
      // No descriptor, no memory: the next attempt would fail as well.
      const bool is_full = error && error != asio::error::connection_aborted && error != asio::error::would_block;
      is_full ? pause() : accept();
    });
  } catch (const std::bad_alloc&) {
    pause();
  }
}

void HttpServer::State::pause() {
  constexpr std::chrono::milliseconds kPause{100};
  for (;;) {
    try {
      pause_end.expires_after(kPause);
      return pause_end.async_wait([this](error_code) { accept(); });
    } catch (const std::bad_alloc&) {  // nothing can be awaited
      std::this_thread::sleep_for(kPause);
    }
  }
}

void HttpServer::State::admit(Socket socket) {
  const HttpLimits& limits = connections.options.limits;
  try {
    error_code error;
    socket.non_blocking(true, error);
    socket.set_option(asio::ip::tcp::no_delay(true), error);
    if (static_cast<int64_t>(connections.size()) < limits.connections) {
      return std::make_shared<Connection>(connections, std::move(socket))->start();
    }
    connections.count("too_many_connections");
    HttpAnswer answer(limits, {.keeps_alive = false}, nullptr);
    answer.respond(connections.handler.error(503, "there are too many connections", "too_many_connections", ""));
    socket.write_some(asio::buffer(answer.take()), error);  // what fits without waiting
  } catch (const std::exception&) {                         // no memory: the connection is closed
  }
}

void HttpServer::State::stop(std::chrono::milliseconds grace) {
  connections.is_stopping = true;
  error_code ignored;
  acceptor.close(ignored);
  const auto all = connections.all();
  if (all.empty()) return stop_loops();
  grace_end.expires_after(grace);
  grace_end.async_wait([this](error_code cancelled) {
    if (!cancelled) stop_loops();
  });
  for (const auto& connection : all) connection->look_up();
}

void HttpServer::State::stop_loops() {
  for (asio::io_context& loop : loops) loop.stop();
}

void HttpServer::State::run(asio::io_context& loop) {
  const auto work = asio::make_work_guard(loop);
  while (!loop.stopped()) {
    try {
      loop.run();
    } catch (const std::exception&) {  // of what had no memory; its connection ends with it
    }
  }
}

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler) : state_(std::make_unique<State>(options, handler)) {
  raise_open_files();
  state_->listen();
}

HttpServer::~HttpServer() = default;

int HttpServer::port() const { return state_->port; }

void HttpServer::run() {
  State& state = *state_;
  state.connections.set_when_empty([&] { state.stop_loops(); });
  asio::post(state.loops.front(), [&] { state.accept(); });
  {
    std::vector<std::jthread> threads;
    try {
      for (size_t i = 1; i < state.loops.size(); ++i) threads.emplace_back([&, i] { state.run(state.loops[i]); });
    } catch (const std::exception&) {
      state.stop_loops();
      throw;
    }
    state.run(state.loops.front());
  }
  state.connections.set_when_empty(nullptr);
  for (const auto& connection : state.connections.all()) connection->give_up();
}

void HttpServer::stop(std::chrono::milliseconds grace) {
  asio::post(state_->loops.front(), [this, grace] { state_->stop(grace); });
}

HttpCounts HttpServer::counts() const { return state_->connections.counts(); }

}  // namespace tessera::server

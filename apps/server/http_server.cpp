#include "server/http_server.h"

#include <sys/resource.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <thread>

#include "core/error.h"
#include "server/http_connection.h"

namespace tessera::server {
namespace {

using Acceptor = asio::basic_socket_acceptor<asio::ip::tcp, Strand>;

void raise_open_files() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& options, HttpHandler& handler) : connections(options, handler) {}

  void listen();
  Awaitable<void> accept();
  void admit(Socket socket);
  void stop(std::chrono::milliseconds grace);

  int port = 0;
  Connections connections;
  asio::io_context io;
  const Strand strand = asio::make_strand(io);  // of those below
  Acceptor acceptor{strand};
  Timer pause{strand}, grace_end{strand};
};

void HttpServer::State::listen() {
  const HttpOptions& options = connections.options;
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  check(!error, "address: \"", options.address, "\" is no IPv4 or IPv6 address");
  check(options.port >= 0 && options.port <= 65535, "port: ", options.port, " is outside [0, 65535]");
  check(options.threads >= 1 && options.threads <= 256, "threads: ", options.threads, " is outside [1, 256]");
  const asio::ip::tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(Acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(Acceptor::max_listen_connections, error);
  check<std::runtime_error>(!error, "port ", options.port, " of ", options.address, " is not to be had: ", error.message(),
                            "; choose another");
  port = acceptor.local_endpoint().port();
}

Awaitable<void> HttpServer::State::accept() {
  while (!connections.is_stopping) {
    Socket socket(asio::make_strand(io));
    error_code error;
    co_await acceptor.async_accept(socket, into(error));
    if (!error) {
      admit(std::move(socket));
    } else if (error != asio::error::connection_aborted && !connections.is_stopping) {
      // No descriptor, or no memory: the next attempt would fail as well.
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(into(error));
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
  if (all.empty()) return io.stop();
  for (const auto& connection : all) connection->stop();
  grace_end.expires_after(grace);
  grace_end.async_wait([this](error_code cancelled) {
    if (!cancelled) io.stop();
  });
}

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler) : state_(std::make_unique<State>(options, handler)) {
  raise_open_files();
  state_->listen();
}

HttpServer::~HttpServer() = default;

int HttpServer::port() const { return state_->port; }

void HttpServer::run() {
  state_->connections.set_when_empty([this] { state_->io.stop(); });
  asio::co_spawn(state_->strand, [this] { return state_->accept(); }, asio::detached);
  const auto work = [this] {
    for (;;) {
      try {
        state_->io.run();
        return;
      } catch (const std::exception&) {  // of a handler that had no memory; its connection ends with it
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < state_->connections.options.threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  state_->connections.set_when_empty(nullptr);
  for (const auto& connection : state_->connections.all()) connection->give_up();
}

void HttpServer::stop(std::chrono::milliseconds grace) {
  asio::post(state_->strand, [this, grace] { state_->stop(grace); });
}

HttpCounts HttpServer::counts() const { return state_->connections.counts(); }

}  // namespace tessera::server

#include "server/http_connection.h"

#include <poll.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include "core/error.h"
#include "server/http_gate.h"

namespace tessera::server {
namespace {

constexpr size_t kReadBytes = 16384;

}  // namespace

void Connections::add(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.insert(connection);
}

void Connections::set_when_empty(std::function<void()> when_empty) {
  const std::lock_guard lock(mutex_);
  when_empty_ = std::move(when_empty);
}

size_t Connections::size() {
  const std::lock_guard lock(mutex_);
  return connections_.size();
}

void Connections::remove(Connection* connection) {
  const std::lock_guard lock(mutex_);
  connections_.erase(connection);
  if (is_stopping && connections_.empty() && when_empty_) when_empty_();
}

std::vector<std::shared_ptr<Connection>> Connections::all() {
  std::vector<std::shared_ptr<Connection>> all;
  const std::lock_guard lock(mutex_);
  for (Connection* connection : connections_) {
    if (auto shared = connection->weak_from_this().lock()) all.push_back(std::move(shared));
  }
  return all;
}

void Connections::count(const std::string& code) {
  const std::lock_guard lock(mutex_);
  ++refused_[code];
}

HttpCounts Connections::counts() {
  const std::lock_guard lock(mutex_);
  return {.connections = static_cast<int64_t>(connections_.size()), .refused = refused_};
}

void Connection::start() {
  asio::co_spawn(socket_.get_executor(), [self = shared_from_this()] { return self->serve(); }, asio::detached);
}

void Connection::stop() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->changed_.cancel(); });
}

void Connection::give_up() {
  if (!answer_) return;
  answer_->detach();
  answer_->lose();
}

Awaitable<void> Connection::serve() {
  const auto self = shared_from_this();
  try {
    watch();
    while (co_await serve_one()) {
    }
  } catch (const Closed&) {
  } catch (const std::exception&) {  // no memory: nobody can be told
  }
  if (answer_) give_up();
  close();
}

// Whether another request may follow.
Awaitable<bool> Connection::serve_one() {
  if (in_.empty() && co_await more(Clock::now() + limits().idle) != Input::bytes) co_return false;
  HttpReader reader(limits().header_bytes, limits().header_lines, limits().body_bytes);
  HttpAnswer::Framing framing{.keeps_alive = false};
  std::optional<HttpResponse> refusal;
  bool is_read = false;
  try {
    co_await read(reader, &HttpReader::has_head, limits().header);
    const HttpHead& head = reader.head();
    framing.minor_version = head.minor_version;
    framing.is_head = head.is_head;
    check_sender(head.request, server_.options);
    framing.headers = cors_headers(head.request, server_.options);
    refusal = preflight_answer(head.request, server_.options);
    if (!refusal) refusal = server_.handler.refuse(head.request);
    if (!refusal) {
      check_body(head);
      reader.read_body();
      const bool waits = !reader.is_done() && in_.empty() && !head.request.header("expect").empty() && head.minor_version == 1;
      if (waits && !co_await write("HTTP/1.1 100 Continue\r\n\r\n", nullptr)) co_return false;
      co_await read(reader, &HttpReader::is_done, limits().body);
    }
    is_read = reader.is_done();
    framing.keeps_alive = is_read && head.keeps_alive && !server_.is_stopping;
  } catch (const HttpError& error) {
    server_.count(error.code());
    refusal = server_.handler.error(error.status(), error.what(), error.code(), reader.has_head() ? reader.head().request.path : "");
  }

  const auto answer = answer_ = std::make_shared<HttpAnswer>(limits(), std::move(framing), [this] { wake(); });
  if (refusal) {
    answer->respond(std::move(*refusal));
  } else {
    const std::shared_ptr<Exchange> exchange = HttpAnswer::exchange(answer);
    try {
      server_.handler.handle(reader.take_request(), exchange);
    } catch (const std::exception&) {  // the exchange ends without an answer
    }
  }
  const bool is_whole = co_await deliver(*answer);
  give_up();
  answer_ = nullptr;
  if (is_whole && !is_read) co_await linger();
  co_return is_whole && answer->keeps_alive() && !(has_ended_ && in_.empty());
}

Awaitable<void> Connection::read(HttpReader& reader, bool (HttpReader::*done)() const, std::chrono::milliseconds time) {
  const Clock::time_point deadline = Clock::now() + time;
  for (;;) {
    in_.erase(0, reader.put(in_));
    if ((reader.*done)()) co_return;
    const Input input = co_await more(deadline);
    if (input == Input::end) throw HttpError(400, "bad_request", "the connection's end came before the request's");
    if (input == Input::late) {
      throw HttpError(408, "request_timeout", message("the request was not there after ", time.count(), " ms"));
    }
  }
}

// Waits for bytes behind those of in_. Throws Closed where no request is to be read any more.
Awaitable<Connection::Input> Connection::more(Clock::time_point deadline) {
  const size_t had = in_.size();
  for (;;) {
    if (is_gone_ || server_.is_stopping) throw Closed();
    if (in_.size() > had) co_return Input::bytes;
    if (has_ended_) co_return Input::end;
    if (Clock::now() >= deadline) co_return Input::late;
    watch();
    co_await wait(deadline);
  }
}

// Writes what the answer is, while it comes. False if the client does not have all of it.
Awaitable<bool> Connection::deliver(HttpAnswer& answer) {
  for (;;) {
    if (is_gone_ || answer.is_gone()) co_return false;
    if (answer.is_abandoned() && !answer.has_begun()) {
      answer.fail(server_.handler.error(500, "the request was given up", "internal_error", ""), "");
    }
    if (has_ended_) answer.probe();
    const std::string bytes = answer.take();
    if (!bytes.empty()) {
      if (!co_await write(bytes, &answer)) co_return false;
      continue;
    }
    if (answer.is_over()) co_return true;
    if (answer.is_abandoned()) co_return false;
    const Clock::time_point due = answer.ping_due();
    if (due <= Clock::now()) {
      answer.ping();
    } else {
      watch();
      co_await wait(due);
    }
  }
}

Awaitable<bool> Connection::write(std::string_view bytes, HttpAnswer* answer) {
  while (!bytes.empty()) {
    error_code error;
    const size_t written = socket_.write_some(asio::buffer(bytes), error);
    if (error == asio::error::would_block) {
      stall_.expires_after(limits().write);
      stall_.async_wait([self = shared_from_this()](error_code cancelled) {
        if (cancelled || self->stall_.expiry() > Clock::now()) return;
        self->server_.count("slow_reader");
        self->close();
      });
      co_await socket_.async_wait(Socket::wait_write, into(error));
      stall_.cancel();
      if (error) co_return false;
      continue;
    }
    if (error) co_return false;
    if (answer) answer->wrote(written);
    bytes.remove_prefix(written);
  }
  co_return true;
}

// A socket that is closed with bytes unread resets the connection, and the client may lose the answer: they are read for a while.
Awaitable<void> Connection::linger() {
  const Clock::time_point deadline = Clock::now() + limits().linger;
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  while (!is_gone_ && !has_ended_ && !server_.is_stopping && Clock::now() < deadline) {
    in_.clear();
    watch();
    co_await wait(deadline);
  }
}

Awaitable<void> Connection::wait(Clock::time_point until) {
  error_code ignored;
  changed_.expires_at(until);
  co_await changed_.async_wait(into(ignored));
}

// Has take_input() called when there is something, unless there is enough that nobody has read.
void Connection::watch() {
  if (is_gone_ || watches_) return;
  if (has_ended_ || in_.size() >= limits().header_bytes + kReadBytes) return watch_for_reset();
  watches_ = true;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
    self->watches_ = false;
    if (!error) self->take_input();
  });
}

void Connection::watch_for_reset() {
  if (watches_for_reset_) return;
  watches_for_reset_ = true;
  socket_.async_wait(Socket::wait_error, [self = shared_from_this()](error_code error) {
    if (error) return;
    // Urgent data ends the wait too, and would end the next at once: then writing tells what happened.
    pollfd state{.fd = self->socket_.native_handle(), .events = 0, .revents = 0};
    if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLERR | POLLHUP))) self->close();
  });
}

void Connection::take_input() {
  std::array<char, kReadBytes> bytes;
  error_code error;
  const size_t size = socket_.read_some(asio::buffer(bytes), error);
  try {
    in_.append(bytes.data(), size);
  } catch (const std::bad_alloc&) {
    return close();
  }
  if (error == asio::error::eof) {
    has_ended_ = true;
  } else if (error && error != asio::error::would_block) {
    return close();
  }
  changed_.cancel();
  watch();
}

// From any thread.
void Connection::wake() {
  if (is_waking_.exchange(true)) return;
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    self->is_waking_ = false;
    if (self->answer_ && self->answer_->is_gone()) {
      if (self->answer_->is_slow()) self->server_.count("slow_reader");
      self->close();
    }
    self->changed_.cancel();
  });
}

void Connection::close() {
  is_gone_ = true;
  error_code ignored;
  socket_.close(ignored);
  changed_.cancel();
  stall_.cancel();
}

}  // namespace tessera::server

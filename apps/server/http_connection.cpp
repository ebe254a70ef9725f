#include "server/http_connection.h"

#include <poll.h>

#include <array>
#include <boost/asio/buffer.hpp>
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

Connection::~Connection() {
  if (routine_) routine_.destroy();
  server_.remove(this);
}

void Connection::start() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] { self->routine_ = self->serve().handle; });
}

void Connection::look_up() {
  if (is_looking_up_.exchange(true)) return;
  try {
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
      self->is_looking_up_ = false;
      self->resume();
    });
  } catch (const std::bad_alloc&) {
    is_looking_up_ = false;
    throw;
  }
}

void Connection::give_up() {
  if (!answer_) return;
  answer_->detach();
  answer_->lose();
}

Connection::Routine Connection::serve() {
  try {
    for (bool goes_on = true; goes_on;) {
      Clock::time_point until = Clock::now() + limits().idle;
      while (!has_input(until)) co_await Wait{*this, until};

      HttpReader reader(limits().header_bytes, limits().header_lines, limits().body_bytes);
      std::optional<HttpResponse> refused;
      bool is_read = false;
      try {
        until = Clock::now() + limits().header;
        while (!reads(reader, &HttpReader::has_head, until)) co_await Wait{*this, until};
        refused = look_at_head(reader);
        until = Clock::now() + limits().body;
        while (!refused && !reads(reader, &HttpReader::is_done, until)) co_await Wait{*this, until};
        is_read = reader.is_done();
      } catch (const HttpError& error) {
        refused = refusal(error, reader);
      } catch (const std::bad_alloc&) {
        refused = refusal(HttpError(503, "out_of_memory", "there is no memory for the request"), reader);
      }

      answer(reader, std::move(refused), is_read);
      while (delivers(until)) co_await Wait{*this, until};
      goes_on = answer_->keeps_alive() && !(has_ended_ && in_.empty());
      give_up();
      answer_ = nullptr;

      until = Clock::now() + limits().linger;
      while (!is_read && lingers(until)) co_await Wait{*this, until};
    }
  } catch (const Closed&) {
  } catch (const std::exception&) {  // no memory: nobody can be told
  }
  give_up();
  answer_ = nullptr;
  close();
}

void Connection::suspend(std::coroutine_handle<> routine, Clock::time_point until) {
  alarm_.expires_at(until);
  alarm_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (!cancelled) self->resume();
  });
  suspended_ = routine;
}

void Connection::resume() {
  if (const auto routine = std::exchange(suspended_, nullptr)) routine.resume();
}

// Whether there are bytes of a next request. Closed where none will come.
bool Connection::has_input(Clock::time_point deadline) {
  if (is_gone_ || server_.is_stopping) throw Closed();
  if (!in_.empty()) return true;
  if (has_ended_ || Clock::now() >= deadline) throw Closed();
  watch();
  return false;
}

bool Connection::reads(HttpReader& reader, bool (HttpReader::*done)() const, Clock::time_point deadline) {
  if (is_gone_ || server_.is_stopping) throw Closed();
  const bool is_body = reader.has_head();
  const size_t taken = reader.put(in_);
  in_.erase(0, taken);
  if (is_body && taken > 0) hold(taken);
  if ((reader.*done)()) return true;
  if (has_ended_) throw HttpError(400, "bad_request", "the connection's end came before the request's");
  if (Clock::now() >= deadline) throw HttpError(408, "request_timeout", "the request did not come in time");
  watch();
  return false;
}

void Connection::hold(size_t bytes) {
  if (!body_) body_ = std::make_shared<HeldBody>(server_.body_bytes);
  const size_t all = body_->add(bytes);
  if (all > limits().bodies_bytes) {
    throw HttpError(503, "bodies",
                    message("the bodies of all requests that come have ", all, " bytes, and ", limits().bodies_bytes,
                            " are taken at a time; ask again later"));
  }
}

// What it is refused with before its body is read, if it is.
std::optional<HttpResponse> Connection::look_at_head(HttpReader& reader) {
  const HttpRequest& request = reader.head().request;
  check_sender(request, server_.options);
  if (auto preflight = preflight_answer(request, server_.options)) return preflight;
  if (auto refused = server_.handler.refuse(request)) return refused;
  check_body(reader.head());
  reader.read_body();
  if (!reader.is_done() && in_.empty() && !request.header("expect").empty() && reader.head().minor_version == 1) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code error;
    if (socket_.write_some(asio::buffer(kContinue), error) != kContinue.size()) throw Closed();  // nothing was sent yet: there is room
  }
  return std::nullopt;
}

HttpResponse Connection::refusal(const HttpError& error, const HttpReader& reader) {
  server_.count(error.code());
  return server_.handler.error(error.status(), error.what(), error.code(), reader.has_head() ? reader.head().request.path : "");
}

void Connection::answer(HttpReader& reader, std::optional<HttpResponse> refusal, bool is_read) {
  HttpAnswer::Framing framing{.keeps_alive = false};
  if (reader.has_head()) {
    const HttpHead& head = reader.head();
    framing = {.minor_version = head.minor_version,
               .is_head = head.is_head,
               .keeps_alive = is_read && head.keeps_alive && !server_.is_stopping,
               .headers = cors_headers(head.request, server_.options)};
  }
  const std::shared_ptr<HeldBody> body = std::exchange(body_, nullptr);
  answer_ = std::make_shared<HttpAnswer>(limits(), std::move(framing), [this] { look_up(); });
  if (refusal) return answer_->respond(std::move(*refusal));
  const std::shared_ptr<Exchange> exchange = HttpAnswer::exchange(answer_);
  try {
    HttpRequest request = reader.take_request();
    request.held = body;
    server_.handler.handle(std::move(request), exchange);
  } catch (const std::exception&) {  // the exchange ends without an answer
  }
}

// Writes what there is of the answer. False at its end; else there is more to do when something changes, or at `until`.
bool Connection::delivers(Clock::time_point& until) {
  for (;;) {
    if (answer_->is_slow()) server_.count("slow_reader");
    if (is_gone_ || answer_->is_gone()) throw Closed();
    if (answer_->is_abandoned() && !answer_->has_begun()) {
      answer_->fail(server_.handler.error(500, "the request was given up", "internal_error", ""), "");
    }
    if (has_ended_) answer_->probe();
    if (!writes(until)) return true;
    if (answer_->is_over()) return false;
    if (answer_->is_abandoned()) throw Closed();
    until = answer_->ping_due();
    if (until > Clock::now()) {
      watch();
      return true;
    }
    answer_->ping();
  }
}

// False where the client has no room for more.
bool Connection::writes(Clock::time_point& until) {
  for (;;) {
    if (written_ == out_.size()) {
      out_ = answer_->take();
      written_ = 0;
      write_deadline_ = Clock::now() + limits().write;
      if (out_.empty()) return true;
    }
    error_code error;
    const size_t size = socket_.write_some(asio::buffer(out_) + written_, error);
    if (error && error != asio::error::would_block) throw Closed();
    if (!error) {
      answer_->wrote(size);
      written_ += size;
      write_deadline_ = Clock::now() + limits().write;
      continue;
    }
    if (Clock::now() >= write_deadline_) {
      server_.count("slow_reader");
      throw Closed();
    }
    until = write_deadline_;
    if (std::exchange(watches_for_room_, true)) return false;
    socket_.async_wait(Socket::wait_write, [self = shared_from_this()](error_code) {
      self->watches_for_room_ = false;
      self->resume();
    });
    return false;
  }
}

// A socket that is closed with bytes unread resets the connection, and the client may lose the answer: they are read for a while.
bool Connection::lingers(Clock::time_point deadline) {
  in_.clear();
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  if (is_gone_ || has_ended_ || server_.is_stopping || Clock::now() >= deadline) return false;
  watch();
  return true;
}

// Has take_input() called when there is something, unless there is much that nobody has read.
void Connection::watch() {
  if (is_gone_ || watches_) return;
  if (has_ended_ || in_.size() >= limits().header_bytes + kReadBytes) return watch_for_reset();
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
    self->watches_ = false;
    if (!error) self->take_input();
  });
  watches_ = true;
}

void Connection::watch_for_reset() {
  if (watches_for_reset_) return;
  watches_for_reset_ = true;
  socket_.async_wait(Socket::wait_error, [self = shared_from_this()](error_code error) {
    if (error) return;
    // Urgent data ends the wait too, and would end the next at once: then writing tells what happened.
    pollfd state{.fd = self->socket_.native_handle(), .events = 0, .revents = 0};
    if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLERR | POLLHUP))) self->close();
    self->resume();
  });
}

void Connection::take_input() {
  try {
    std::array<char, kReadBytes> bytes;
    error_code error;
    in_.append(bytes.data(), socket_.read_some(asio::buffer(bytes), error));
    if (error == asio::error::eof) {
      has_ended_ = true;
    } else if (error && error != asio::error::would_block) {
      close();
    }
    watch();
  } catch (const std::bad_alloc&) {
    close();
  }
  resume();
}

void Connection::close() {
  is_gone_ = true;
  error_code ignored;
  socket_.close(ignored);
  alarm_.cancel();
}

}  // namespace tessera::server

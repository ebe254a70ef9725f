#pragma once
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "server/http_server.h"

namespace tessera::server {

// What stands between the threads that answer a request and its connection, which alone writes: the bytes to be sent, and whether anybody
// is there to take them. No socket. All from any thread.
class HttpAnswer {
 public:
  using Clock = std::chrono::steady_clock;

  struct Framing {
    int minor_version = 1;
    bool is_head = false;  // no body is sent
    bool keeps_alive = true;
    HttpFields headers = {};  // of any answer: CORS
  };

  // `wake` is called when there is something new for the connection, until detach(); under the lock, so that it must not call back.
  HttpAnswer(const HttpLimits& limits, Framing framing, std::function<void()> wake);

  // What a handler is given. Destroyed without an answer, it is_abandoned().
  static std::shared_ptr<Exchange> exchange(std::shared_ptr<HttpAnswer> answer);

  // The handler's side, as Exchange has it.
  void respond(HttpResponse response);
  void expect_stream(HttpFields headers);
  bool send(std::string_view events);
  void finish();
  void fail(HttpResponse whole, std::string_view events);
  void on_gone(std::function<void()> gone);
  void abandon() noexcept;

  // The connection's side.
  std::string take();         // what is to be written now; "": nothing
  void wrote(size_t bytes);   // of that
  bool is_over() const;       // nothing more comes, and all is written
  bool is_gone() const;       // the client: nothing more is written
  bool is_slow() const;       // gone since it held too much
  bool is_abandoned() const;  // without an answer
  bool has_begun() const;     // its status line is there
  bool keeps_alive() const;
  void lose();  // the client is gone
  // The client has sent its end. Something is sent, once, that a connection which is closed altogether answers with a reset: an interim
  // response before the status line, a comment in a stream. HTTP/1.0 has none before the stream.
  void probe();
  Clock::time_point ping_due() const;  // max(): none is
  void ping();
  void detach();

 private:
  using Lock = std::unique_lock<std::mutex>;
  void begin(int status, std::string_view content_type, std::optional<size_t> content_length, const HttpFields& headers);
  void queue(std::string_view events);
  void respond(HttpResponse response, Lock& lock);
  void end(Lock& lock);   // unlocks
  void lose(Lock& lock);  // unlocks
  void wake_if_possible() noexcept;

  const size_t held_bytes_;
  const std::chrono::milliseconds ping_;
  mutable std::mutex mutex_;
  Framing framing_;
  std::function<void()> wake_, when_gone_;
  HttpFields stream_headers_;
  std::string queued_;
  size_t writing_ = 0;  // bytes that were taken and are not yet written
  Clock::time_point last_sent_;
  bool expects_stream_ = false, has_begun_ = false, has_ended_ = false, has_probed_ = false;
  bool is_gone_ = false, is_slow_ = false, is_abandoned_ = false;
};

}  // namespace tessera::server

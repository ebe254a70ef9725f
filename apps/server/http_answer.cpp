#include "server/http_answer.h"

#include <new>
#include <stdexcept>
#include <utility>

#include "server/http_response.h"

namespace tessera::server {
namespace {

class HandlersExchange : public Exchange {
 public:
  explicit HandlersExchange(std::shared_ptr<HttpAnswer> answer) : answer_(std::move(answer)) {}
  ~HandlersExchange() override { answer_->abandon(); }
  void respond(HttpResponse response) override { answer_->respond(std::move(response)); }
  void expect_stream(HttpFields headers) override { answer_->expect_stream(std::move(headers)); }
  bool send(std::string_view events) override { return answer_->send(events); }
  void finish() override { answer_->finish(); }
  void fail(HttpResponse whole, std::string_view events) override { answer_->fail(std::move(whole), events); }
  void on_gone(std::function<void()> gone) override { answer_->on_gone(std::move(gone)); }

 private:
  const std::shared_ptr<HttpAnswer> answer_;
};

}  // namespace

HttpAnswer::HttpAnswer(const HttpLimits& limits, Framing framing, std::function<void()> wake)
    : held_bytes_(limits.held_bytes), ping_(limits.ping), framing_(std::move(framing)), wake_(std::move(wake)) {}

std::shared_ptr<Exchange> HttpAnswer::exchange(std::shared_ptr<HttpAnswer> answer) {
  return std::make_shared<HandlersExchange>(std::move(answer));
}

void HttpAnswer::respond(HttpResponse response) {
  Lock lock(mutex_);
  if (expects_stream_) throw std::logic_error("respond: a stream is expected; an error is what fail() says");
  respond(std::move(response), lock);
}

void HttpAnswer::respond(HttpResponse response, Lock& lock) {
  if (has_ended_ || is_gone_) return;
  begin(response.status, response.content_type, response.body.size(), response.headers);
  if (!framing_.is_head) queued_ += response.body;
  end(lock);
}

void HttpAnswer::expect_stream(HttpFields headers) {
  const Lock lock(mutex_);
  if (has_ended_ || expects_stream_) return;
  expects_stream_ = true;
  stream_headers_ = std::move(headers);
  last_sent_ = Clock::now();
  if (wake_) wake_();
}

bool HttpAnswer::send(std::string_view events) {
  Lock lock(mutex_);
  if (has_ended_ || is_gone_) return false;
  if (queued_.size() + writing_ > held_bytes_) {
    is_slow_ = true;
    lose(lock);
    return false;
  }
  queue(events);
  if (wake_) wake_();
  return true;
}

void HttpAnswer::finish() {
  Lock lock(mutex_);
  if (has_ended_ || is_gone_) return;
  queue("");
  if (framing_.minor_version == 1 && !framing_.is_head) queued_ += "0\r\n\r\n";
  end(lock);
}

void HttpAnswer::fail(HttpResponse whole, std::string_view events) {
  Lock lock(mutex_);
  if (!has_begun_) return respond(std::move(whole), lock);
  if (has_ended_ || is_gone_) return;
  queue(events);
  if (framing_.minor_version == 1 && !framing_.is_head) queued_ += "0\r\n\r\n";
  framing_.keeps_alive = false;
  end(lock);
}

void HttpAnswer::on_gone(std::function<void()> gone) {
  {
    const Lock lock(mutex_);
    if (has_ended_) return;
    if (!is_gone_) {
      when_gone_ = std::move(gone);
      return;
    }
  }
  gone();
}

void HttpAnswer::abandon() noexcept {
  const Lock lock(mutex_);
  is_abandoned_ = true;
  wake_if_possible();  // always: memory may have been too short to wake it before
}

std::string HttpAnswer::take() {
  const Lock lock(mutex_);
  if (is_gone_) return {};
  writing_ = queued_.size();
  return std::exchange(queued_, {});
}

void HttpAnswer::wrote(size_t bytes) {
  const Lock lock(mutex_);
  writing_ -= bytes;
}

bool HttpAnswer::is_over() const {
  const Lock lock(mutex_);
  return has_ended_ && queued_.empty() && writing_ == 0;
}

bool HttpAnswer::is_gone() const {
  const Lock lock(mutex_);
  return is_gone_;
}

bool HttpAnswer::is_slow() const {
  const Lock lock(mutex_);
  return is_slow_;
}

bool HttpAnswer::is_abandoned() const {
  const Lock lock(mutex_);
  return is_abandoned_ && !has_ended_;
}

bool HttpAnswer::has_begun() const {
  const Lock lock(mutex_);
  return has_begun_;
}

bool HttpAnswer::keeps_alive() const {
  const Lock lock(mutex_);
  return framing_.keeps_alive;
}

void HttpAnswer::lose() {
  Lock lock(mutex_);
  lose(lock);
}

void HttpAnswer::probe() {
  const Lock lock(mutex_);
  if (has_probed_ || has_ended_ || is_gone_) return;
  if (framing_.minor_version == 1 && !has_begun_) {
    queued_ += "HTTP/1.1 100 Continue\r\n\r\n";
  } else if (expects_stream_) {
    queue(": ping\n\n");
  } else {
    return;
  }
  has_probed_ = true;
}

HttpAnswer::Clock::time_point HttpAnswer::ping_due() const {
  const Lock lock(mutex_);
  const bool waits = expects_stream_ && !has_ended_ && !is_gone_ && queued_.empty() && writing_ == 0;
  return waits ? last_sent_ + ping_ : Clock::time_point::max();
}

void HttpAnswer::ping() {
  const Lock lock(mutex_);
  if (!has_ended_ && !is_gone_) queue(": ping\n\n");
}

void HttpAnswer::detach() {
  const Lock lock(mutex_);
  wake_ = nullptr;
}

void HttpAnswer::begin(int status, std::string_view content_type, std::optional<size_t> content_length, const HttpFields& headers) {
  HttpFields all = framing_.headers;
  all.insert(all.end(), headers.begin(), headers.end());
  if (!content_length) {
    all.emplace_back("Cache-Control", "no-cache");
    if (framing_.minor_version == 1) {
      all.emplace_back("Transfer-Encoding", "chunked");
    } else {
      framing_.keeps_alive = false;  // the connection's end is the body's
    }
  }
  if (!framing_.keeps_alive) {
    all.emplace_back("Connection", "close");
  } else if (framing_.minor_version == 0) {
    all.emplace_back("Connection", "keep-alive");
  }
  queued_ += response_head(status, content_type, content_length, all);
  has_begun_ = true;
}

void HttpAnswer::queue(std::string_view events) {
  expects_stream_ = true;
  last_sent_ = Clock::now();
  if (!has_begun_) begin(200, "text/event-stream", std::nullopt, stream_headers_);
  if (events.empty() || framing_.is_head) return;
  queued_ += framing_.minor_version == 1 ? chunk(events) : std::string(events);
}

// What the handler gave may hold the Exchange, whose end takes the lock: it is destroyed without it.
void HttpAnswer::end(Lock& lock) {
  has_ended_ = true;
  const std::function<void()> dropped = std::exchange(when_gone_, nullptr);
  if (wake_) wake_();
  lock.unlock();
}

void HttpAnswer::wake_if_possible() noexcept {
  try {
    if (wake_) wake_();
  } catch (const std::bad_alloc&) {
  }
}

void HttpAnswer::lose(Lock& lock) {
  if (std::exchange(is_gone_, true)) return;
  queued_.clear();
  const std::function<void()> gone = std::exchange(when_gone_, nullptr);
  wake_if_possible();
  lock.unlock();
  if (gone) gone();
}

}  // namespace tessera::server

#pragma once
// What service.cpp (state and routes) and service_requests.cpp (requests for answers) share.
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/service.h"

namespace tessera::server {

// What parses requests and writes answers, and what may wait: for a form to be compiled in another process.
struct Service::Workers {
  boost::asio::thread_pool writing{2}, waiting{8};
};

// A request for an answer, from its arrival to its end.
struct Service::Asked {
  uint64_t number;
  api::Route route;
  std::string path, key;
  HttpRequest request;  // until it is read
  std::shared_ptr<Exchange> exchange;
  std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();

  std::mutex mutex;
  std::shared_ptr<api::Answering> answering = {};
  bool gone = false, submitted = false, ended = false;
  std::deque<std::pair<std::chrono::steady_clock::time_point, api::AnswerPiece>> pieces = {};
  bool taken = false;  // a worker takes them, or is about to
  RequestTimes times = {};

  std::vector<std::chrono::steady_clock::time_point> last_tokens = {};  // of each choice; whoever takes the pieces has them
};

// Where there is no memory even to end a request, waits for some.
template <class Act>
void until_it_can(const Act& act) {
  for (;;) {
    try {
      return act();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

api::Failure busy(const std::string& message, const std::string& code);  // 503

}  // namespace tessera::server

#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "generate/scheduler.h"

namespace tessera::server {

// How values are distributed: Prometheus' histogram.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void add(double value);
  void write(std::string& out, const std::string& name, const std::string& labels) const;

 private:
  std::span<const double> bounds_;  // upper ones, rising
  std::vector<int64_t> counts_;     // of each, the last beyond them
  double sum_ = 0;
};

// What a request took, when it has ended. Seconds.
struct RequestTimes {
  double queued = 0, first_token = 0, total = 0;  // from its arrival; first_token: 0 if none came
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0;
  int64_t n = 1, max_tokens = 0;
};

// The state of a server as Prometheus' text: the names, units and buckets of vLLM, under "tessera:". Any thread.
class Metrics {
 public:
  Metrics();

  void token_gap(double seconds);                                    // between two tokens of a choice
  void ended(const std::string& reason, const RequestTimes& times);  // stop, length, abort or error, as vLLM names them
  void cancelled();                                                  // by its client, or too slow to read
  void refused(const std::string& reason);                           // a fixed set of words

  // `cache_usage`: Scheduler's. `more`: refusals that are counted elsewhere.
  std::string text(const std::string& model, const Scheduler::Counts& counts, double cache_usage,
                   const std::map<std::string, int64_t>& more) const;

 private:
  mutable std::mutex mutex_;
  Histogram first_token_, token_gap_, per_token_, total_, queued_, prefill_, decode_, prompt_tokens_, new_tokens_, n_, max_tokens_;
  std::map<std::string, int64_t> ended_, refused_;
  int64_t cancelled_ = 0;
};

}  // namespace tessera::server

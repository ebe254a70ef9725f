#include "server/metrics.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tessera::server {
namespace {

// vLLM's buckets.
constexpr double kFirstToken[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                  1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
constexpr double kTokenGap[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
constexpr double kSeconds[] = {0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTokens[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
constexpr double kChoices[] = {1, 2, 5, 10, 20};

std::string number(double value) { return nlohmann::json(value).dump(); }

std::string label_value(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n')
      text += "\\n";
    else
      text += c;
  }
  return text + '"';
}

void begin(std::string& out, const std::string& name, const char* type, const char* help) {
  out += "# HELP tessera:" + name + " " + help + "\n# TYPE tessera:" + name + " " + type + "\n";
}

void line(std::string& out, const std::string& name, const std::string& labels, const std::string& value) {
  out += "tessera:" + name + "{" + labels + "} " + value + "\n";
}

}  // namespace

void Histogram::add(double value) {
  ++counts_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
  sum_ += value;
}

void Histogram::write(std::string& out, const std::string& name, const std::string& labels) const {
  int64_t count = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    line(out, name + "_bucket", labels + ",le=\"" + (i < bounds_.size() ? number(bounds_[i]) : "+Inf") + '"', std::to_string(count));
  }
  line(out, name + "_sum", labels, number(sum_));
  line(out, name + "_count", labels, std::to_string(count));
}

Metrics::Metrics()
    : first_token_(kFirstToken),
      token_gap_(kTokenGap),
      per_token_(kTokenGap),
      total_(kSeconds),
      queued_(kSeconds),
      prefill_(kSeconds),
      decode_(kSeconds),
      prompt_tokens_(kTokens),
      new_tokens_(kTokens),
      n_(kChoices),
      max_tokens_(kTokens) {
  for (const char* reason : {"stop", "length", "abort", "error"}) ended_[reason] = 0;
}

void Metrics::token_gap(double seconds) {
  const std::lock_guard lock(mutex_);
  token_gap_.add(seconds);
}

void Metrics::ended(const std::string& reason, const RequestTimes& times) {
  const std::lock_guard lock(mutex_);
  ++ended_[reason];
  total_.add(times.total);
  queued_.add(times.queued);
  prompt_tokens_.add(static_cast<double>(times.prompt_tokens));
  new_tokens_.add(static_cast<double>(times.new_tokens));
  n_.add(static_cast<double>(times.n));
  max_tokens_.add(static_cast<double>(times.max_tokens));
  if (times.first_token == 0) return;
  first_token_.add(times.first_token);
  prefill_.add(std::max(times.first_token - times.queued, 0.0));
  decode_.add(std::max(times.total - times.first_token, 0.0));
  const double per_choice = static_cast<double>(times.new_tokens) / static_cast<double>(times.n);
  if (per_choice > 1) per_token_.add((times.total - times.first_token) / (per_choice - 1));
}

void Metrics::cancelled() {
  const std::lock_guard lock(mutex_);
  ++cancelled_;
}

void Metrics::refused(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++refused_[reason];
}

std::string Metrics::text(const std::string& model, const Scheduler::Counts& counts, double cache_usage,
                          const std::map<std::string, int64_t>& more) const {
  const std::string labels = "model_name=" + label_value(model);
  std::string out;
  const auto gauge = [&](const char* name, const char* help, const std::string& value) {
    begin(out, name, "gauge", help);
    line(out, name, labels, value);
  };
  const auto counter = [&](const char* name, const char* help, int64_t value) {
    begin(out, name, "counter", help);
    line(out, name, labels, std::to_string(value));
  };
  gauge("num_requests_running", "Number of sequences that are being computed.", std::to_string(counts.running));
  gauge("num_requests_waiting", "Number of requests in the queue.", std::to_string(counts.waiting));
  gauge("kv_cache_usage_perc", "The part of the cache that is in use, 0 to 1.", number(cache_usage));
  counter("num_preemptions_total", "Times that a sequence gave up its pages for another.", counts.preempted);
  counter("prefix_cache_queries_total", "Tokens of prompts that were looked for in the cache.", counts.prompt_tokens);
  counter("prefix_cache_hits_total", "Tokens of prompts that were found in the cache.", counts.cached);
  counter("prompt_tokens_total", "Tokens of prompts.", counts.prompt_tokens);
  counter("generation_tokens_total", "New tokens.", counts.generated);

  const std::lock_guard lock(mutex_);
  begin(out, "request_success_total", "counter", "Requests that have ended.");
  for (const auto& [reason, count] : ended_)
    line(out, "request_success_total", labels + ",finished_reason=" + label_value(reason), std::to_string(count));
  counter("requests_cancelled_total", "Requests whose clients went, or read too slowly.", cancelled_);
  begin(out, "requests_refused_total", "counter", "Requests that were refused.");
  std::map<std::string, int64_t> refused = refused_;
  for (const auto& [reason, count] : more) refused[reason] += count;
  for (const auto& [reason, count] : refused)
    line(out, "requests_refused_total", labels + ",reason=" + label_value(reason), std::to_string(count));

  const auto histogram = [&](const char* name, const char* help, const Histogram& values) {
    begin(out, name, "histogram", help);
    values.write(out, name, labels);
  };
  histogram("time_to_first_token_seconds", "From a request's arrival to its first token.", first_token_);
  histogram("inter_token_latency_seconds", "Between two tokens of a choice.", token_gap_);
  histogram("request_time_per_output_token_seconds", "Of a request, behind its first token.", per_token_);
  histogram("e2e_request_latency_seconds", "From a request's arrival to its last token.", total_);
  histogram("request_queue_time_seconds", "From a request's arrival until it is computed.", queued_);
  histogram("request_prefill_time_seconds", "From a request's first step to its first token.", prefill_);
  histogram("request_decode_time_seconds", "From a request's first token to its last.", decode_);
  histogram("request_prompt_tokens", "Tokens of a request's prompts.", prompt_tokens_);
  histogram("request_generation_tokens", "New tokens of a request.", new_tokens_);
  histogram("request_params_n", "Answers that a request asks for.", n_);
  histogram("request_params_max_tokens", "New tokens that a request takes at most.", max_tokens_);
  return out;
}

}  // namespace tessera::server

// What many requests at a time cost: how much slower sampling is than greedy choices, and how long streams wait while a long prompt is
// computed beside them. usage: scheduler_bench MODEL [WEIGHTS] [ROUNDS]
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include "engine/running_model.h"
#include "generate/random.h"
#include "generate/scheduler.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kStreams = 8;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  explicit Bench(RunningModel& running) : running_(running) {}

  // Tokens a second of full rows, prompts left out.
  double rate(const SamplingParams& sampling, int64_t tokens) {
    Scheduler scheduler(running_.generator(), {});
    int64_t begun = 0, counted = 0;
    Clock::time_point start;
    for (int64_t i = 0; i < kStreams; ++i) {
      ScheduledRequest request = stream(sampling, tokens);
      request.on_token = [&, first = true](const ScheduledRequest::Token&) mutable {
        if (first && ++begun == kStreams) start = Clock::now();
        counted += !first && begun == kStreams;
        first = false;
        return true;
      };
      scheduler.submit(std::move(request));
    }
    while (scheduler.step()) {
    }
    return static_cast<double>(counted) / seconds(Clock::now() - start);
  }

  // Streams go on; in their midst comes a prompt, and in its midst a short question.
  void gaps(int64_t prompt_tokens) {
    Scheduler scheduler(running_.generator(), {});
    std::vector<double> before, during;
    bool prompt_runs = false;
    for (int64_t i = 0; i < kStreams; ++i) {
      ScheduledRequest request = stream({.temperature = 0}, 2000);
      request.on_token = [&, last = Clock::time_point()](const ScheduledRequest::Token&) mutable {
        const auto now = Clock::now();
        if (last != Clock::time_point()) (prompt_runs ? during : before).push_back(seconds(now - last));
        last = now;
        return true;
      };
      scheduler.submit(std::move(request));
    }
    while (before.size() < 100 * kStreams) scheduler.step();
    const auto asked = Clock::now();
    Clock::time_point answered, question, question_answered;
    ScheduledRequest prompt = stream({.temperature = 0}, 1, prompt_tokens);
    prompt.on_token = [&](const ScheduledRequest::Token&) {
      answered = Clock::now();
      return false;
    };
    prompt_runs = true;
    scheduler.submit(std::move(prompt));
    int64_t steps = 0;
    for (; answered == Clock::time_point(); ++steps) {
      if (steps == 10) {
        ScheduledRequest short_one = stream({.temperature = 0}, 1, 32);
        short_one.on_token = [&](const ScheduledRequest::Token&) {
          question_answered = Clock::now();
          return false;
        };
        question = Clock::now();
        scheduler.submit(std::move(short_one));
      }
      scheduler.step();
    }
    const double usual = median(before), longest = *std::max_element(during.begin(), during.end());
    std::cout << kStreams << " streams beside a prompt of " << prompt_tokens << " tokens: median gap before " << usual * 1e3
              << " ms, while it is computed " << median(during) * 1e3 << " ms, longest " << longest * 1e3 << " ms: " << longest / usual
              << " times; its first token after " << seconds(answered - asked) << " s in " << steps
              << " steps, that of a question of 32 tokens after " << seconds(question_answered - question) * 1e3 << " ms\n";
  }

  // A prompt that ends with what was computed before it, and one that does not.
  void second_turn(int64_t tokens) {
    const auto first_token = [&](const std::vector<TokenId>& prompt) {
      Scheduler scheduler(running_.generator(), {});
      const auto start = Clock::now();
      double taken = 0;
      ScheduledRequest request{.prompt = prompt, .sampling = {.temperature = 0}, .max_new_tokens = 1};
      request.on_token = [&](const ScheduledRequest::Token&) {
        taken = seconds(Clock::now() - start);
        return true;
      };
      scheduler.submit(std::move(request));
      while (scheduler.step()) {
      }
      return taken;
    };
    std::vector<TokenId> prompt = drawn(tokens);
    const double cold = first_token(prompt);
    const std::vector<TokenId> more = drawn(20);
    prompt.insert(prompt.end(), more.begin(), more.end());
    const double warm = first_token(prompt);
    std::cout << "a turn of 20 tokens behind " << tokens << " cached ones: first token after " << warm * 1e3 << " ms, all anew "
              << cold * 1e3 << " ms: " << 100 * warm / cold << " %\n";
  }

 private:
  std::vector<TokenId> drawn(int64_t count) {
    std::vector<TokenId> tokens;
    for (const auto vocabulary = static_cast<double>(running_.model().spec().vocab_size); count-- > 0;)
      tokens.push_back(static_cast<TokenId>(uniform(1, 0, drawn_++) * vocabulary));
    return tokens;
  }

  ScheduledRequest stream(const SamplingParams& sampling, int64_t new_tokens, int64_t prompt = 32) {
    ScheduledRequest request{.prompt = drawn(prompt), .sampling = sampling, .max_new_tokens = new_tokens};
    request.sampling.seed = drawn_;
    return request;
  }

  RunningModel& running_;
  uint64_t drawn_ = 0;
};

int run(int argc, char** argv) {
  LoadOptions options{.model = argv[1], .context = 8192};
  if (argc > 2) options.precision.weights = parse_data_type(argv[2]);
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  RunningModel running(open_checkpoint(options), std::nullopt, open_device("cpu", {}), options, RunningModel::alike(options, kStreams + 2),
                       {});
  Bench bench(running);
  const SamplingParams greedy{.temperature = 0}, top_k{.top_k = 64, .top_p = 0.95}, top_p{.top_p = 0.95};
  std::vector<double> of_greedy, of_top_k, of_top_p;
  for (int round = 0; round < rounds; ++round) {
    of_greedy.push_back(bench.rate(greedy, 100));
    of_top_k.push_back(bench.rate(top_k, 100));
    of_top_p.push_back(bench.rate(top_p, 100));
  }
  const auto best = [](const std::vector<double>& rates) { return *std::max_element(rates.begin(), rates.end()); };
  for (const auto& [name, rates] : {std::pair("greedy", of_greedy), {"top_k 64, top_p 0.95", of_top_k}, {"top_k 0, top_p 0.95", of_top_p}})
    std::cout << name << ": " << best(rates) << " tokens/s at best, median " << median(rates) << "; of greedy "
              << 100 * best(rates) / best(of_greedy) << " %, medians " << 100 * median(rates) / median(of_greedy) << " %\n";
  for (int round = 0; round < rounds; ++round) bench.gaps(4000);
  for (int round = 0; round < rounds; ++round) bench.second_turn(4000);
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: scheduler_bench MODEL [WEIGHTS] [ROUNDS]\n";
    return 2;
  }
  return tessera::run(argc, argv);
}

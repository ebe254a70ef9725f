// Who runs when, and that each is given what it is given alone: on a device whose every next token depends on what lies in the pages.
#include "generate/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

#include "paged_device.h"
#include "request_script.h"
#include "thinned.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kBoundary = 64;

std::vector<TokenId> prompt_of(TokenId name, size_t count) {
  std::mt19937 random(static_cast<uint32_t>(name));
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % kPagedVocab);
  tokens[0] = name;
  return tokens;
}

struct BenchOptions {
  Limits limits = PagedDevice::mixing();
  int64_t max_tokens = 20'000, max_sequences = 16;
  bool prefix_cache = true;
  std::optional<int64_t> boundary = {}, second_window = {};
  int64_t rewind_tokens = 64;
  SchedulerOptions scheduler = {.budget = 32};
};

struct Bench {
  explicit Bench(const BenchOptions& options = {})
      : device(options.limits),
        model(100'000, options.boundary, options.second_window),
        cache(device, model.spec().cache,
              {.max_tokens = options.max_tokens,
               .max_sequences = options.max_sequences,
               .rewind_tokens = options.rewind_tokens,
               .prefix_cache = options.prefix_cache}),
        generator(model, device, cache),
        scheduler(generator, options.scheduler) {}

  // Submits, and keeps what comes.
  Scheduler::Id submit(ScheduledRequest request) {
    auto& mine = given.emplace_back(std::make_unique<Given>());
    Given& one = *mine;
    if (!request.on_token)
      request.on_token = [&one](const ScheduledRequest::Token& token) {
        one.ids.push_back(token.id);
        return true;
      };
    request.on_end = [this, &one, name = request.prompt.front()](const ScheduledRequest::End& end) {
      one.end = end;
      ++one.ends;
      ended.push_back(name);
    };
    return scheduler.submit(std::move(request));
  }
  Scheduler::Id submit(TokenId name, size_t prompt, int64_t max_new_tokens) {
    return submit({.prompt = prompt_of(name, prompt), .sampling = {.temperature = 0}, .max_new_tokens = max_new_tokens});
  }
  void run() {
    for (int step = 0; scheduler.step(); ++step) ASSERT_LT(step, 100'000) << "it does not end";
  }
  std::vector<TokenId> alone(const ScheduledRequest& request) const { return run_alone({.request = request}, rows())[0].ids; }
  std::vector<TokenId> alone(TokenId name, size_t prompt, int64_t max_new_tokens) const {
    return alone({.prompt = prompt_of(name, prompt), .sampling = {.temperature = 0}, .max_new_tokens = max_new_tokens});
  }
  RowsOfText rows() const {
    return [this](std::span<const TokenId> text, size_t count) { return model.rows(text, count); };
  }
  FinishReason reason(size_t request) const { return given[request]->end.value().reason; }
  std::string error(size_t request) const {
    try {
      std::rethrow_exception(given[request]->end.value().error);
    } catch (const std::exception& error) {
      return error.what();
    }
  }
  // Tokens of this text in the last Batch; 0: it was not in it.
  int64_t in_last(TokenId name) const {
    int64_t count = 0;
    for (const PagedDevice::Slice& slice : device.last) count += slice.name == name ? slice.count : 0;
    return count;
  }

  PagedDevice device;
  PagedModel model;
  Cache cache;
  Generator generator;
  std::vector<std::unique_ptr<Given>> given;  // by request that was submitted; outlives the scheduler, which ends what is left
  std::vector<TokenId> ended;                 // the texts' first tokens, in the order of their ends
  Scheduler scheduler;
};

std::string refusal(Bench& bench, const ScheduledRequest& request) {
  try {
    bench.scheduler.submit(request);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "taken";
}

// One answer whatever happens around it.

struct Setting {
  int64_t budget;
  bool alternating, tight, prefix_cache;
};

TEST(scheduler, gives_each_what_it_is_given_alone) {
  const std::vector<Scripted> script =
      make_script({.requests = kSanitizerBuild ? 80u : 200u, .seed = 1, .vocab = kPagedVocab, .stem = 60, .tail = 30, .most_new = 24});
  const PagedModel model(100'000, kBoundary);
  std::vector<std::vector<Given>> alone;
  for (const Scripted& one : script)
    alone.push_back(run_alone(one, [&](std::span<const TokenId> text, size_t count) { return model.rows(text, count); }));
  std::vector<Setting> settings;
  for (const int64_t budget : {1, 7, 32, 512})
    for (const bool alternating : {false, true})
      for (const bool tight : {false, true})
        for (const bool prefix_cache : {false, true}) settings.push_back({budget, alternating, tight, prefix_cache});
  std::map<std::string, int64_t> seen;
  for (const Setting& setting : settings) {
    SCOPED_TRACE(message("budget ", setting.budget, setting.alternating ? ", alternating" : ", mixing", setting.tight ? ", few pages" : "",
                         setting.prefix_cache ? ", prefix cache" : ""));
    Bench bench({.limits = setting.alternating ? PagedDevice::alternating() : PagedDevice::mixing(),
                 .max_tokens = setting.tight ? 160 : 4000,
                 .max_sequences = 10,
                 .prefix_cache = setting.prefix_cache,
                 .boundary = kBoundary,
                 .scheduler = {.budget = setting.budget}});
    const auto given = run_script(bench.scheduler, script);
    expect_as_alone(script, given, alone);
    expect_nothing_left(bench.scheduler, bench.cache);
    const Scheduler::Counts counts = bench.scheduler.counts();
    EXPECT_EQ(counts.computed, bench.device.computed);
    if (!setting.tight) {
      EXPECT_EQ(counts.preempted, 0);
    }
    seen["preemptions"] += counts.preempted;
    int64_t drafted = 0, accepted = 0;
    for (const auto& request : given)
      for (const Given& one : request) drafted += one.end->drafted, accepted += one.end->accepted;
    EXPECT_EQ(counts.drafted, drafted);
    EXPECT_EQ(counts.accepted, accepted);
    EXPECT_EQ(counts.cached > 0, setting.prefix_cache) << counts.cached;
    for (size_t i = 0; i < script.size(); ++i)
      for (const Given& one : given[i]) {
        const ScheduledRequest& asked = script[i].request;
        const auto prompt = std::ssize(asked.prompt);
        seen["crossings"] += prompt <= kBoundary && prompt + one.end->new_tokens > kBoundary;
        seen["forks"] += one.end->sample > 0 && one.end->cached_tokens == prompt;
        seen["drafts that came true"] += one.end->accepted;
        seen["drafts that did not"] += one.end->drafted - one.end->accepted;
        seen["cancelled before a token"] += one.end->reason == FinishReason::cancelled && one.ids.empty();
        seen["cancelled behind some"] += one.end->reason == FinishReason::cancelled && !one.ids.empty();
        seen["forms"] += asked.constraint != nullptr;
        seen["forms with drafts that came true"] += asked.constraint ? one.end->accepted : 0;
        seen["forms with drafts that did not"] += asked.constraint ? one.end->drafted - one.end->accepted : 0;
        seen["forms that came to nothing"] += one.end->reason == FinishReason::error;
        seen["stops"] += one.end->reason == FinishReason::stop;
      }
  }
  for (const char* what :
       {"crossings", "forks", "drafts that came true", "drafts that did not", "cancelled before a token", "cancelled behind some", "stops",
        "forms", "forms with drafts that came true", "forms with drafts that did not", "forms that came to nothing"})
    EXPECT_GT(seen[what], 10) << what;
}

TEST(scheduler, loses_no_page_in_ten_thousand_joins_cancels_and_preemptions) {
  for (const bool alternating : {false, true})
    for (const bool all_windowed : {false, true}) {  // then texts go on whose beginnings nobody has
      SCOPED_TRACE(message(alternating, all_windowed));
      const std::vector<Scripted> script =
          make_script({.requests = kSanitizerBuild ? 500u : 2000u, .seed = 2, .vocab = kPagedVocab, .stem = 16, .tail = 8, .most_new = 60});
      Bench bench({.limits = alternating ? PagedDevice::alternating() : PagedDevice::mixing(),
                   .max_tokens = 100,
                   .max_sequences = 8,
                   .boundary = 50,
                   .second_window = all_windowed ? std::optional<int64_t>(20) : std::nullopt,
                   .rewind_tokens = 8,
                   .scheduler = {.budget = 24, .max_waiting = 100'000}});
      std::vector<std::vector<Given>> alone;
      for (const Scripted& one : script) alone.push_back(run_alone(one, bench.rows()));
      const auto given = run_script(bench.scheduler, script);
      expect_as_alone(script, given, alone);
      expect_nothing_left(bench.scheduler, bench.cache);
      EXPECT_GT(bench.scheduler.counts().preempted, all_windowed ? 10 : 50);
    }
}

TEST(scheduler, takes_requests_and_cancels_from_other_threads_while_one_runs) {
  const std::vector<Scripted> script =
      make_script({.requests = 200, .seed = 3, .vocab = kPagedVocab, .stem = 40, .tail = 12, .most_new = 12});
  Bench bench({.max_tokens = 300, .max_sequences = 6});
  std::vector<std::vector<Given>> given(script.size()), alone;
  for (size_t i = 0; i < script.size(); ++i) {
    alone.push_back(run_alone({.request = script[i].request}, bench.rows()));
    given[i].resize(static_cast<size_t>(script[i].request.n));
  }
  std::atomic<size_t> left = 0;
  for (const Scripted& one : script) left += static_cast<size_t>(one.request.n);
  std::vector<std::thread> threads;
  std::thread engine([&] { bench.scheduler.run(); });
  for (size_t thread = 0; thread < 4; ++thread)
    threads.emplace_back([&, thread] {
      for (size_t i = thread; i < script.size(); i += 4) {
        ScheduledRequest request = script[i].request;
        request.logprobs.reset();
        request.prompt_logprobs.reset();
        request.on_token = [&given, i](const ScheduledRequest::Token& token) {
          given[i][token.sample].ids.push_back(token.id);
          return true;
        };
        request.on_end = [&given, &left, i](const ScheduledRequest::End& end) {
          given[i][end.sample].end = end;
          ++given[i][end.sample].ends;
          --left;
        };
        const Scheduler::Id id = bench.scheduler.submit(std::move(request));
        (void)bench.scheduler.counts();
        if (script[i].cancelled) {
          std::this_thread::yield();
          bench.scheduler.cancel(id);
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  while (left > 0) std::this_thread::yield();
  bench.scheduler.stop();
  engine.join();
  for (size_t i = 0; i < script.size(); ++i)
    for (Given& one : alone[i]) one.logprobs.clear(), one.prompt_logprobs.clear();
  expect_as_alone(script, given, alone);
  expect_nothing_left(bench.scheduler, bench.cache);
}

TEST(scheduler, what_a_course_abandons_its_constraint_takes_back) {
  int64_t accepted = 0;
  for (uint32_t seed = 1; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Bench bench;
    ScheduledRequest request{.prompt = prompt_of(1, 30), .sampling = {.temperature = 0}, .max_new_tokens = 60};
    request.constraint = scripted_constraint(seed, kPagedVocab, 100);
    const auto sequence = bench.cache.create();
    sequence->tokens = request.prompt;
    PromptLookup lookup;
    Course course(Sampler(request.sampling, {}), {.max_new_tokens = request.max_new_tokens,
                                                  .prompt = request.prompt.size(),
                                                  .drafter = &lookup,
                                                  .max_draft = 4,
                                                  .constraint = request.constraint->fork()});
    std::vector<TokenId> ids;
    for (int forward = 0; !course.ended(); ++forward) {
      ASSERT_LT(forward, 1000);
      std::vector<Generator::Request> requests{course.propose(bench.generator, *sequence, 4)};
      bench.generator.begin(requests);
      auto rows = bench.generator.step(requests);
      ASSERT_TRUE(rows);
      Course* const courses[] = {&course};
      const bool looked = forward % 5 == 3;  // and nothing was chosen
      looked ? course.look(kPagedVocab) : choose_by_rows(bench.device, *rows, courses, requests);
      ASSERT_EQ(requests[0].error, nullptr);
      if (looked || forward % 5 == 1) {
        course.abandon(bench.cache, *sequence);
        continue;
      }
      course.tell([&](const Course::Chosen& chosen) {
        ids.push_back(chosen.id);
        return true;
      });
      course.settle(bench.cache, *sequence);
    }
    accepted += course.accepted();
    EXPECT_EQ(ids, bench.alone(request));
  }
  EXPECT_GT(accepted, 20);
}

// Nobody starves: counted in steps.

TEST(scheduler, endless_streams_get_a_token_every_step_beside_a_long_prompt_and_a_short_question_begins_soon) {
  Bench bench;
  for (TokenId name = 0; name < 8; ++name) bench.submit(name, 10, 5000);
  while (bench.given[7]->ids.empty()) bench.scheduler.step();
  bench.submit(20, 4000, 3);
  int64_t steps = 0, question_begins = -1;
  const auto step = [&] {
    std::vector<size_t> before;
    for (size_t i = 0; i < 8; ++i) before.push_back(bench.given[i]->ids.size());
    bench.scheduler.step();
    ++steps;
    int64_t tokens = 0;
    for (const PagedDevice::Slice& slice : bench.device.last) tokens += slice.count;
    ASSERT_LE(tokens, 32);
    for (size_t i = 0; i < 8; ++i) ASSERT_EQ(bench.given[i]->ids.size(), before[i] + 1) << "stream " << i << ", step " << steps;
  };
  while (bench.given[8]->ids.empty() && !testing::Test::HasFatalFailure()) {
    if (steps == 50) {
      bench.submit(21, 32, 3);
      question_begins = 0;
    }
    if (question_begins >= 0 && bench.given[9]->ids.empty()) ++question_begins;
    step();
    ASSERT_LT(steps, 1000);
  }
  EXPECT_LE(question_begins, 4);
  EXPECT_FALSE(bench.given[9]->ids.empty()) << "before the long prompt was computed";
  EXPECT_LE(steps, 4000 / 24 + 4) << "what the streams leave is the prompts'";
  EXPECT_EQ(bench.given[9]->ids, bench.alone(21, 32, 3));
}

TEST(scheduler, where_prompts_and_decodes_are_batches_of_their_own_at_most_two_prompts_come_before_the_decodes) {
  Bench bench({.limits = PagedDevice::alternating(), .scheduler = {.budget = 32}});
  for (TokenId name = 0; name < 8; ++name) bench.submit(name, 10, 3000);
  while (bench.given[7]->ids.empty()) bench.scheduler.step();
  bench.submit(20, 1600, 3);
  int64_t steps = 0, without = 0, question = 0;
  for (; bench.given[8]->ids.empty() && steps < 1000; ++steps) {
    if (steps == 20) bench.submit(21, 32, 3);
    if (steps >= 20 && bench.given[9]->ids.empty()) ++question;
    bench.scheduler.step();
    without = bench.in_last(0) > 0 ? 0 : without + 1;
    ASSERT_LE(without, 2);
    if (without == 0) {
      for (TokenId name = 0; name < 8; ++name) ASSERT_EQ(bench.in_last(name), 1);
    }
  }
  EXPECT_LE(question, 4);
  EXPECT_LE(steps, 1600 / 32 * 3 / 2 + 10);
}

TEST(scheduler, a_text_that_many_begin_with_is_computed_once) {
  Bench bench({.scheduler = {.budget = 64}});
  const std::vector<TokenId> system = prompt_of(1, 2000);
  for (TokenId user = 0; user < 8; ++user) {
    ScheduledRequest request{.prompt = system, .sampling = {.temperature = 0}, .max_new_tokens = 1};
    const std::vector<TokenId> own = prompt_of(10 + user, 20);
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    bench.submit(request);
  }
  bench.run();
  EXPECT_EQ(bench.scheduler.counts().computed, 2000 + 8 * 20);
  EXPECT_EQ(bench.scheduler.counts().cached, 7 * 2000);
  EXPECT_EQ(bench.scheduler.counts().prompt_tokens, 8 * 2020);
  for (const auto& one : bench.given) EXPECT_EQ(one->end->reason, FinishReason::length);
}

TEST(scheduler, who_computes_what_others_wait_for_hands_over_when_it_is_cancelled) {
  Bench bench({.scheduler = {.budget = 64}});
  const std::vector<TokenId> system = prompt_of(1, 640);
  std::vector<Scheduler::Id> ids;
  std::vector<ScheduledRequest> requests;
  for (TokenId user = 0; user < 3; ++user) {
    ScheduledRequest& request =
        requests.emplace_back(ScheduledRequest{.prompt = system, .sampling = {.temperature = 0}, .max_new_tokens = 2});
    request.prompt.push_back(10 + user);
    ids.push_back(bench.submit(request));
  }
  for (int step = 0; step < 3; ++step) bench.scheduler.step();
  EXPECT_EQ(bench.scheduler.counts().running, 1);
  EXPECT_EQ(bench.device.computed, 3 * 64);
  bench.scheduler.cancel(ids[2]);  // one that waits
  bench.scheduler.cancel(ids[0]);
  bench.run();
  EXPECT_EQ(bench.reason(0), FinishReason::cancelled);
  EXPECT_EQ(bench.reason(2), FinishReason::cancelled);
  EXPECT_EQ(bench.given[1]->ids, bench.alone(requests[1]));
  EXPECT_LE(bench.device.computed, 642 + 64) << "what was computed is found again";
  expect_nothing_left(bench.scheduler, bench.cache);
}

TEST(scheduler, a_text_is_found_again_under_its_own_salt_alone) {
  Bench bench;
  const auto cached = [&](const std::string& salt) {
    bench.submit({.prompt = prompt_of(1, 200), .sampling = {.temperature = 0}, .max_new_tokens = 2, .salt = salt});
    bench.run();
    EXPECT_EQ(bench.given.back()->ids, bench.alone(1, 200, 2));
    return bench.given.back()->end->cached_tokens;
  };
  EXPECT_EQ(cached("mine"), 0);
  EXPECT_EQ(cached("mine"), 192);
  EXPECT_EQ(cached("yours"), 0);
  EXPECT_EQ(cached(""), 0);
  EXPECT_EQ(cached("yours"), 192);
  // Nor does anybody wait for another's.
  const int64_t before = bench.device.computed;
  for (const char* salt : {"theirs", "hers"})
    bench.submit({.prompt = prompt_of(1, 200), .sampling = {.temperature = 0}, .max_new_tokens = 0, .salt = salt});
  bench.scheduler.step();
  EXPECT_EQ(bench.scheduler.counts().running, 2);
  bench.run();
  EXPECT_EQ(bench.device.computed - before, 400);
}

TEST(scheduler, a_page_with_a_draft_that_did_not_come_true_is_not_found_again) {
  Bench bench;
  ScheduledRequest request{.sampling = {.temperature = 0}, .max_new_tokens = 6, .prompt_lookup = 4};
  for (TokenId token = kPagedVocab; token-- > 0;) request.prompt.push_back(token);  // whatever comes is drafted to fall, and rises
  request.prompt.insert(request.prompt.end(), {20, 40, 20, 40});
  const std::vector<TokenId> answer = bench.alone(request);
  bench.submit(request);
  bench.run();
  ASSERT_EQ(bench.given[0]->ids, answer);
  const int64_t known = std::ssize(request.prompt) + 1;
  ASSERT_EQ(bench.given[0]->end->accepted, 0);
  ASSERT_GE(known + bench.given[0]->end->drafted, 72) << "the drafts fill a page";
  std::vector<TokenId> drafted = request.prompt;
  for (TokenId i = 0; i < 8; ++i) drafted.push_back(answer[0] - i);
  EXPECT_EQ(bench.cache.cached(drafted, "", 0, std::ssize(drafted)).tokens, 64);
}

TEST(scheduler, owners_take_turns) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  for (int i = 0; i < 100; ++i)
    bench.submit({.prompt = prompt_of(1, 5), .sampling = {.temperature = 0}, .max_new_tokens = 2, .owner = "many"});
  bench.scheduler.step();
  bench.submit({.prompt = prompt_of(2, 5), .sampling = {.temperature = 0}, .max_new_tokens = 2, .owner = "one"});
  bench.run();
  ASSERT_EQ(bench.ended.size(), 101u);
  EXPECT_EQ(bench.ended[1], 2);
}

TEST(scheduler, lower_priorities_go_first_and_equal_ones_in_order) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  TokenId name = 0;
  for (const int priority : {1, 2, 0, 1, -1})
    bench.submit({.prompt = prompt_of(++name, 5), .sampling = {.temperature = 0}, .max_new_tokens = 2, .priority = priority});
  bench.run();
  EXPECT_THAT(bench.ended, ElementsAre(5, 3, 1, 4, 2));
}

TEST(scheduler, the_first_in_the_order_is_never_preempted) {
  Bench bench({.max_tokens = 100, .max_sequences = 6, .scheduler = {.budget = 64}});
  for (TokenId name = 1; name <= 6; ++name)
    bench.submit({.prompt = prompt_of(name, 12), .sampling = {.temperature = 0}, .max_new_tokens = 60, .priority = name == 4 ? -1 : 0});
  int64_t steps = 0;
  for (; bench.given[3]->ends == 0; ++steps) {
    const size_t before = bench.given[3]->ids.size();
    bench.scheduler.step();
    ASSERT_EQ(bench.given[3]->ids.size(), before + 1) << steps;
  }
  bench.run();
  EXPECT_GT(bench.scheduler.counts().preempted, 0);
  for (TokenId name = 1; name <= 6; ++name) EXPECT_EQ(bench.given[static_cast<size_t>(name - 1)]->ids, bench.alone(name, 12, 60)) << name;
}

// Refused at once, or ended in time.

TEST(scheduler, what_can_never_run_is_refused_by_name_value_and_limit) {
  Bench bench({.max_tokens = 100});
  const std::vector<TokenId> prompt = prompt_of(1, 10);
  EXPECT_THAT(refusal(bench, {.prompt = {}}), HasSubstr("prompt"));
  EXPECT_THAT(refusal(bench, {.prompt = {1, 64}}), AllOf(HasSubstr("prompt"), HasSubstr("64")));
  EXPECT_THAT(refusal(bench, {.prompt = {-1}}), AllOf(HasSubstr("prompt"), HasSubstr("-1"), HasSubstr("64")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt_of(1, 101)}), AllOf(HasSubstr("prompt"), HasSubstr("101"), HasSubstr("100")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .max_new_tokens = 91}),
              AllOf(HasSubstr("max_new_tokens"), HasSubstr("91"), HasSubstr("90")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .max_new_tokens = std::numeric_limits<int64_t>::max()}), HasSubstr("max_new_tokens"));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .max_new_tokens = -1}), AllOf(HasSubstr("max_new_tokens"), HasSubstr("-1")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .n = 0}), AllOf(HasSubstr("n: 0"), HasSubstr("1")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .logprobs = -1}), AllOf(HasSubstr("logprobs"), HasSubstr("-1")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .prompt_logprobs = -2}), AllOf(HasSubstr("prompt_logprobs"), HasSubstr("-2")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .prompt_lookup = -3}), AllOf(HasSubstr("prompt_lookup"), HasSubstr("-3")));
  EXPECT_THAT(refusal(bench, {.prompt = prompt, .sampling = {.top_p = 2}}), AllOf(HasSubstr("top_p"), HasSubstr("2")));
  EXPECT_EQ(bench.scheduler.counts().waiting, 0);
  bench.submit(1, 10, 90);  // to the last token of the context
  bench.run();
  EXPECT_EQ(bench.given[0]->ids, bench.alone(1, 10, 90));
}

TEST(scheduler, the_queue_is_bounded_in_requests_and_in_tokens) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1, .max_waiting = 3, .max_waiting_tokens = 100}});
  bench.submit(1, 40, 50);
  bench.submit(2, 40, 1);
  EXPECT_THROW(bench.submit(3, 21, 1), QueueFull) << "tokens";
  bench.submit(4, 20, 1);
  EXPECT_THROW(bench.scheduler.submit({.prompt = {1}}), QueueFull) << "tokens";
  bench.scheduler.step();  // the first begins, and its 40 tokens do not wait any more
  bench.submit(5, 39, 1);
  EXPECT_EQ(bench.scheduler.counts().waiting_tokens, 99);
  EXPECT_EQ(bench.scheduler.counts().waiting, 3);
  EXPECT_THROW(bench.scheduler.submit({.prompt = {1}}), QueueFull) << "requests";
  bench.run();
  EXPECT_THAT(bench.ended, ElementsAre(1, 2, 4, 5));
  expect_nothing_left(bench.scheduler, bench.cache);
}

TEST(scheduler, deadlines_of_the_queue_and_of_a_request) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  const auto slowly = [&](const ScheduledRequest::Token&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return true;
  };
  using std::chrono::milliseconds;
  const auto request = [&](TokenId name) {
    return ScheduledRequest{.prompt = prompt_of(name, 5), .sampling = {.temperature = 0}, .max_new_tokens = 1000};
  };
  ScheduledRequest late_in_the_midst = request(1), late_in_the_queue = request(2), begun = request(3);
  late_in_the_midst.timeout = milliseconds(50);
  late_in_the_midst.on_token = slowly;
  late_in_the_queue.queue_timeout = milliseconds(1);
  begun.max_new_tokens = 4;
  begun.queue_timeout = std::chrono::hours(1);
  bench.submit(late_in_the_midst);
  bench.scheduler.step();
  bench.submit(late_in_the_queue);
  bench.submit(begun);
  bench.run();
  EXPECT_THAT(bench.ended, ElementsAre(2, 1, 3));
  EXPECT_EQ(bench.reason(0), FinishReason::timeout);
  EXPECT_GT(bench.given[0]->end->new_tokens, 0);
  EXPECT_EQ(bench.reason(1), FinishReason::timeout);
  EXPECT_EQ(bench.given[1]->end->new_tokens, 0);
  EXPECT_EQ(bench.given[2]->ids, bench.alone(3, 5, 4));
  // Who has begun does not wait in the queue any more.
  begun.queue_timeout = milliseconds(20);
  begun.max_new_tokens = 20;
  begun.on_token = slowly;
  bench.submit(begun);
  bench.run();
  EXPECT_EQ(bench.reason(3), FinishReason::length);
  expect_nothing_left(bench.scheduler, bench.cache);
}

// What is told of it.

TEST(scheduler, the_first_token_tells_what_was_cached_and_how_long_its_request_was_queued) {
  using Clock = std::chrono::steady_clock;
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  std::optional<ScheduledRequest::Token> first;
  Clock::time_point end_of_other;
  const auto request = [](TokenId name) {
    return ScheduledRequest{.prompt = prompt_of(name, 100), .sampling = {.temperature = 0}, .max_new_tokens = 5};
  };
  bench.submit(request(1));
  bench.run();
  ScheduledRequest other = request(2), again = request(1), cancelled = request(3);
  other.on_end = [&](const auto&) { end_of_other = Clock::now(); };
  again.on_token = [&](const ScheduledRequest::Token& token) {
    if (!first) first = token;
    return true;
  };
  const auto before = Clock::now();
  bench.scheduler.submit(other);
  bench.submit(again);
  const auto id = bench.submit(cancelled);
  const auto after = Clock::now();
  bench.scheduler.step();
  bench.scheduler.cancel(id);
  bench.run();
  const auto ended = Clock::now();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->cached_tokens, 96);
  EXPECT_EQ(bench.given[1]->end->cached_tokens, 96);
  EXPECT_GE(first->queued, end_of_other - after);
  EXPECT_LE(first->queued, ended - before);
  EXPECT_EQ(bench.given[1]->end->queued, first->queued);
  EXPECT_GT(bench.given[2]->end->queued.count(), 0) << "it never ran";
}

TEST(scheduler, who_is_sent_away_is_told_to_come_again_when_what_waits_will_have_been_computed) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  EXPECT_EQ(bench.scheduler.retry_after(), 1) << "nothing is known";
  bench.device.before_run = [](const Batch&) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  bench.submit(1, 5, 10'000);
  for (int step = 0; step < 10; ++step) bench.scheduler.step();
  EXPECT_EQ(bench.scheduler.retry_after(), 1) << "nothing waits";
  for (int i = 0; i < 3; ++i) bench.submit({.prompt = prompt_of(2, 5), .max_new_tokens = 1000, .n = 2});
  EXPECT_GE(bench.scheduler.retry_after(), 3 * 2 * 1000 * 0.002);
  for (int i = 0; i < 30; ++i) bench.submit(3, 5, 1000);
  EXPECT_EQ(bench.scheduler.retry_after(), 60) << "no longer than this";
}

TEST(scheduler, answers_are_taken_to_be_as_long_as_those_that_have_come) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  bench.device.before_run = [](const Batch&) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  for (int i = 0; i < 5; ++i)
    bench.submit({.prompt = prompt_of(1, 5), .max_new_tokens = 19'000, .on_token = [n = 0](const auto&) mutable { return ++n < 2; }});
  bench.run();
  for (int i = 0; i < 10; ++i) bench.submit(2, 5, 19'000);  // 19 s and more each, if they were to be as long as they may
  EXPECT_LT(bench.scheduler.retry_after(), 60);
}

// Cancelled in every state.

class Cancelled : public testing::Test {
 protected:
  // Once it is cancelled, the other one is given what it is given alone, and nothing is left.
  void expect_cancelled(Bench& bench, Scheduler::Id id, size_t request, size_t tokens) {
    bench.scheduler.cancel(id);
    bench.run();
    EXPECT_EQ(bench.reason(request), FinishReason::cancelled);
    EXPECT_EQ(bench.given[request]->ids.size(), tokens);
    for (const auto& one : bench.given) EXPECT_EQ(one->ends, 1);
    EXPECT_EQ(bench.given[0]->ids, bench.alone(1, 20, 60));
    expect_nothing_left(bench.scheduler, bench.cache);
  }
};

TEST_F(Cancelled, before_its_first_step) {
  Bench bench;
  bench.submit(1, 20, 60);
  expect_cancelled(bench, bench.submit(2, 20, 60), 1, 0);
  EXPECT_EQ(bench.given[1]->end->prompt_tokens, 20);
}

TEST_F(Cancelled, while_it_waits) {
  Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
  bench.submit(1, 20, 60);
  const auto id = bench.submit(2, 20, 60);
  for (int step = 0; step < 5; ++step) bench.scheduler.step();
  EXPECT_EQ(bench.scheduler.counts().waiting, 1);
  expect_cancelled(bench, id, 1, 0);
}

TEST_F(Cancelled, in_the_midst_of_its_prompt) {
  Bench bench;
  bench.submit(1, 20, 60);
  const auto id = bench.submit(2, 500, 60);
  for (int step = 0; step < 5; ++step) bench.scheduler.step();
  EXPECT_GT(bench.in_last(2), 1);
  expect_cancelled(bench, id, 1, 0);
}

TEST_F(Cancelled, in_the_midst_of_its_answer) {
  Bench bench;
  bench.submit(1, 20, 60);
  const auto id = bench.submit(2, 20, 60);
  while (bench.given[1]->ids.size() < 7) bench.scheduler.step();
  expect_cancelled(bench, id, 1, 7);
}

TEST_F(Cancelled, while_it_waits_for_its_pages_to_be_computed_again) {
  Bench bench({.max_tokens = 100, .max_sequences = 2});
  bench.submit(1, 20, 60);
  const auto id = bench.submit(2, 20, 60);
  while (bench.scheduler.counts().preempted == 0) ASSERT_TRUE(bench.scheduler.step());
  const size_t tokens = bench.given[1]->ids.size();
  EXPECT_GT(tokens, 0u);
  expect_cancelled(bench, id, 1, tokens);
}

TEST_F(Cancelled, by_its_own_callback) {
  Bench bench;
  bench.submit(1, 20, 60);
  Scheduler::Id id = 0;
  size_t tokens = 0;
  id = bench.submit({.prompt = prompt_of(2, 20), .sampling = {.temperature = 0}, .max_new_tokens = 60, .on_token = [&](const auto&) {
                       if (++tokens == 3) bench.scheduler.cancel(id);
                       return true;
                     }});
  bench.run();
  EXPECT_EQ(tokens, 3u);
  expect_cancelled(bench, id, 1, 0);
}

TEST_F(Cancelled, with_all_its_samples_before_and_behind_the_fork) {
  for (const int steps : {1, 40}) {  // of a prompt of 20 pieces
    Bench bench({.scheduler = {.budget = 8}});
    int ends = 0;
    const ScheduledRequest request{
        .prompt = prompt_of(2, 160), .sampling = {.seed = 1}, .max_new_tokens = 500, .n = 3, .on_end = [&](const auto& end) {
          EXPECT_EQ(end.reason, FinishReason::cancelled);
          EXPECT_EQ(end.new_tokens > 0, steps == 40);
          ++ends;
        }};
    const auto id = bench.scheduler.submit(request);
    for (int step = 0; step < steps; ++step) bench.scheduler.step();
    EXPECT_EQ(bench.scheduler.counts().running, steps == 1 ? 1 : 3);
    bench.scheduler.cancel(id);
    bench.run();
    EXPECT_EQ(ends, 3);
    expect_nothing_left(bench.scheduler, bench.cache);
  }
}

TEST_F(Cancelled, in_vain_when_it_has_ended_or_never_was) {
  Bench bench;
  const auto id = bench.submit(2, 5, 2);
  bench.run();
  bench.scheduler.cancel(id);
  bench.scheduler.cancel(12345);
  bench.submit(3, 5, 2);
  bench.run();
  EXPECT_EQ(bench.reason(0), FinishReason::length);
  EXPECT_EQ(bench.reason(1), FinishReason::length);
}

TEST_F(Cancelled, when_the_scheduler_goes) {
  int ends = 0;
  {
    Bench bench({.scheduler = {.budget = 32, .max_num_seqs = 1}});
    for (int i = 0; i < 3; ++i)
      bench.scheduler.submit({.prompt = {1, 2, 3}, .max_new_tokens = 50, .n = 2, .on_end = [&](const ScheduledRequest::End& end) {
                                EXPECT_EQ(end.reason, FinishReason::cancelled);
                                ++ends;
                              }});
    bench.scheduler.step();
  }
  EXPECT_EQ(ends, 6);
}

// Errors.

TEST(scheduler, a_device_that_does_not_answer_ends_all_with_its_word) {
  Bench bench({.scheduler = {.budget = 16, .max_num_seqs = 2}});
  for (TokenId name = 1; name <= 4; ++name) bench.submit(name, 10, 20);
  for (int step = 0; step < 6; ++step) bench.scheduler.step();
  bench.device.before_run = [](const Batch&) { throw DeviceError("the card does not answer"); };
  EXPECT_THROW(bench.scheduler.step(), DeviceError);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(bench.given[i]->ends, 1);
    EXPECT_EQ(bench.reason(i), FinishReason::error);
    EXPECT_THAT(bench.error(i), HasSubstr("the card does not answer"));
  }
  expect_nothing_left(bench.scheduler, bench.cache);
  bench.device.before_run = {};
  bench.submit(5, 10, 20);
  bench.run();
  EXPECT_EQ(bench.given[4]->ids, bench.alone(5, 10, 20));
}

TEST(scheduler, an_error_that_no_request_caused_ends_all) {
  Bench bench({.scheduler = {.budget = 16}});
  for (TokenId name = 1; name <= 4; ++name) bench.submit(name, 10, 20);
  for (int step = 0; step < 6; ++step) bench.scheduler.step();
  bench.device.before_run = [](const Batch&) { throw std::runtime_error("out of order"); };
  try {
    bench.run();
  } catch (const std::exception&) {
  }
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(bench.reason(i), FinishReason::error);
    EXPECT_THAT(bench.error(i), HasSubstr("out of order"));
  }
  expect_nothing_left(bench.scheduler, bench.cache);
}

TEST(scheduler, a_request_whose_forward_fails_ends_alone) {
  for (const int when : {0, 6}) {  // in its prompt, in its answer
    Bench bench({.scheduler = {.budget = 64}});
    for (TokenId name = 1; name <= 5; ++name) bench.submit(name, 10, 20);
    for (int step = 0; step < when; ++step) bench.scheduler.step();
    bench.device.before_run = [](const Batch& batch) {
      for (const Batch::Slice& slice : batch.slices)
        if (slice.sequence->tokens.front() == 3) throw std::runtime_error("token 3 is out of order");
    };
    bench.run();
    for (TokenId name = 1; name <= 5; ++name) {
      const auto i = static_cast<size_t>(name - 1);
      EXPECT_EQ(bench.given[i]->ends, 1);
      if (name != 3) {
        EXPECT_EQ(bench.given[i]->ids, bench.alone(name, 10, 20));
      }
    }
    EXPECT_EQ(bench.reason(2), FinishReason::error);
    EXPECT_THAT(bench.error(2), HasSubstr("token 3 is out of order"));
    expect_nothing_left(bench.scheduler, bench.cache);
  }
}

TEST(scheduler, a_callback_that_throws_ends_its_own_request) {
  Bench bench;
  bench.submit(1, 10, 20);
  size_t tokens = 0;
  bench.submit({.prompt = prompt_of(2, 10), .sampling = {.temperature = 0}, .max_new_tokens = 20, .on_token = [&](const auto&) -> bool {
                  if (++tokens == 4) throw std::runtime_error("nobody reads");
                  return true;
                }});
  bench.run();
  EXPECT_EQ(bench.given[0]->ids, bench.alone(1, 10, 20));
  EXPECT_EQ(tokens, 4u);
  EXPECT_EQ(bench.reason(1), FinishReason::error);
  EXPECT_THAT(bench.error(1), HasSubstr("nobody reads"));
  expect_nothing_left(bench.scheduler, bench.cache);
}

}  // namespace
}  // namespace tessera

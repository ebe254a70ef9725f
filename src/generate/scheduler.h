#pragma once
// Many requests at once: continuous batching over a Generator and its Cache. Each step is one Batch; requests join, leave and are
// cancelled between steps. What a request is given does not depend on the others, as far as the device keeps that promise.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "generate/course.h"
#include "generate/generator.h"
#include "generate/sampler.h"
#include "generate/speculation.h"
#include "generate/step_budget.h"
#include "generate/token_constraint.h"

namespace tessera {

// The queue is as long as it may be: another time, or another machine.
struct QueueFull : ResourceError {
  using ResourceError::ResourceError;
};

enum class FinishReason {
  stop,       // an end token, or on_token's word
  length,     // max_new_tokens, or the context's end
  cancelled,  // cancel()
  timeout,    // its own, or the queue's
  error,
};

struct SchedulerOptions {
  int64_t budget = 0;          // tokens of a Batch; 0: adapted, so that a step with prompts takes 3 times one of its decodes alone
  int64_t max_num_seqs = 0;    // sequences that run at a time; 0, and at most: what cache and device take
  int64_t max_waiting = 1024;  // requests in the queue
  int64_t max_waiting_tokens = 1 << 22;  // tokens of their prompts
};

// Called on the thread that steps, with nothing locked; they may call submit and cancel, and must not wait. One that throws ends its
// sample with that error; on_end must not throw.
struct ScheduledRequest {
  struct Token {
    size_t sample;  // which of the request's n
    TokenId id;
    bool end;                       // an end token: it is not part of the text
    const TokenLogprobs* logprobs;  // null unless asked for
    int64_t cached_tokens;          // as at the end
    std::chrono::steady_clock::duration queued;
  };
  struct End {
    size_t sample;
    FinishReason reason;
    std::exception_ptr error = {};  // of an error
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;  // of the prompt, found in the cache when it was first computed
    int64_t new_tokens = 0;     // an end token among them
    int64_t drafted = 0, accepted = 0;
    std::chrono::steady_clock::duration queued = {};  // from submit until the request first ran, or ended without
  };

  std::vector<TokenId> prompt;  // at least one
  SamplingParams sampling = {};
  std::vector<TokenId> end_tokens = {};
  int64_t max_new_tokens = 0;                   // 0: the prompt alone is computed
  int64_t n = 1;                                // answers, each its own sample of the seed
  std::optional<int64_t> logprobs = {};         // of each new token, and of so many of the most probable; 0: of the token alone
  std::optional<int64_t> prompt_logprobs = {};  // of each token of the prompt but the first
  // The form that the answers keep to, at its beginning: each takes a fork of it in submit. Where no token may come, the sample ends with
  // the constraint's error. Log-probabilities are the model's without it.
  std::shared_ptr<const TokenConstraint> constraint = {};
  int64_t prompt_lookup = 0;  // tokens of a draft at most
  int priority = 0;           // lower ones go first
  std::string owner = {};     // owners of one priority take turns
  std::string salt = {};      // pages are shared among requests of the same salt alone
  std::chrono::steady_clock::duration queue_timeout = std::chrono::steady_clock::duration::max();  // before it first runs
  std::chrono::steady_clock::duration timeout = std::chrono::steady_clock::duration::max();        // in all
  std::function<bool(const Token&)> on_token = {};                                                 // false: it was the last
  std::function<void(const std::vector<TokenLogprobs>&)> on_prompt = {};  // once, before the first token: prompt_logprobs
  std::function<void(const End&)> on_end = {};                            // once a sample; nothing comes after it
};

class Scheduler {
 public:
  using Id = uint64_t;

  // Generator, and all that it refers to, must outlive this; while this runs nobody else steps the generator.
  Scheduler(Generator& generator, const SchedulerOptions& options);
  ~Scheduler();  // ends what is left as cancelled
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Both from any thread. submit throws std::invalid_argument for what can never run, naming the field, its value and its limit, and
  // QueueFull. An id that has ended, or never was, is cancelled in vain.
  Id submit(ScheduledRequest request);
  void cancel(Id id);

  // One Batch, on one thread at a time; false: there is nothing to do. An error that a request caused ends it alone; one that none caused
  // ends all, and is thrown.
  bool step();

  // Steps until stop(), waiting for requests where there are none.
  void run();
  void stop();  // from any thread

  struct Counts {
    int64_t waiting = 0, waiting_tokens = 0, running = 0;  // requests, tokens of prompts, sequences
    int64_t steps = 0, computed = 0;                       // Batches, tokens in them
    int64_t prompt_tokens = 0, cached = 0, generated = 0;  // of prompts that were begun; of these found in the cache; new tokens
    int64_t preempted = 0, finished = 0;                   // times; samples
    int64_t drafted = 0, accepted = 0;                     // tokens, of samples that have finished
  };

  // From any thread.
  Counts counts() const;
  // The part of the cache's pages that sequences hold, 0 to 1, of the group of layers where it is largest.
  double cache_usage() const;
  // Seconds, 1 to 60, until what waits will have been computed if it goes on as in the last steps. Answers are taken to be as long as those
  // that have come, or as they may be.
  int64_t retry_after() const;

  int64_t max_num_seqs() const { return max_num_seqs_; }

 private:
  struct Job;
  struct Stream;
  using Clock = std::chrono::steady_clock;

  void expect_possible(const ScheduledRequest& request) const;
  bool try_step();
  void take_incoming();
  void end_cancelled_and_late();
  void admit();
  bool is_held(Stream& stream, const Cache::Hit& hit);
  bool fits(const Stream& stream, const Cache::Hit& hit) const;
  bool start(Stream& stream);
  void leave_queue(Job& job);
  void propose(Stream& stream);
  void share_out();
  void share_prompts(const std::vector<Stream*>& prompts, int64_t tokens);
  void alternate(const std::vector<Stream*>& decodes, const std::vector<Stream*>& prompts);
  void make_room();
  void preempt(Stream& stream);
  void run_batch();
  void fork_siblings(Stream& leader, LogitRows* rows, size_t request);
  void take(Stream& stream);
  void tell(Stream& stream);
  void end(Stream& stream, FinishReason reason, std::exception_ptr error = {});
  void end_all(const std::exception_ptr& error);
  void remove_ended();

  Generator& generator_;
  SchedulerOptions options_;
  Limits limits_;
  int64_t max_num_seqs_;
  int64_t context_;
  StepBudget budget_;
  PromptLookup lookup_;
  // Of the thread that steps. Who has ended stays until remove_ended.
  std::vector<std::unique_ptr<Stream>> waiting_, running_;
  std::unordered_map<std::string, uint64_t> last_turn_;  // of an owner
  uint64_t turn_ = 0, turn_of_decodes_ = 0;
  int64_t turns_of_prompts_ = 0;  // Batches of prompts in a row, where decodes wait
  int failures_ = 0;              // steps in a row that came to nothing

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Stream>> incoming_;
  std::unordered_map<Id, std::shared_ptr<Job>> jobs_;
  Id last_id_ = 0;
  bool changed_ = false, stopped_ = false;
  Counts counts_;
  int64_t finished_tokens_ = 0;                     // new ones of samples that have finished
  double prompt_seconds_ = 0, decode_seconds_ = 0;  // of a token, in the last steps; 0: not known
};

}  // namespace tessera

#include "generate/scheduler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

namespace tessera {
namespace {

constexpr int64_t kAll = std::numeric_limits<int64_t>::max();
constexpr int64_t kMostPromptTurns = 2;             // Batches of prompts before one of decodes, where they cannot mix
constexpr int kMostFailures = 3;                    // of steps in a row
constexpr int kMostHeld = 16;                       // steps that another's prompt may stand still while one waits for its pages
constexpr double kLeastRetry = 1, kMostRetry = 60;  // seconds
constexpr size_t kMostOwners = 4096;                // whose turns are remembered

int64_t pages(int64_t tokens, int64_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

}  // namespace

struct Scheduler::Job {
  Id id = 0;
  ScheduledRequest asked;
  Clock::time_point arrived;
  std::atomic<bool> cancelled = false;
  bool began = false, prompt_told = false;
  Clock::duration queued = {};  // until it began
  int64_t left = 0;             // samples that have not ended
};

// One sample of a request.
struct Scheduler::Stream {
  std::shared_ptr<Job> job;
  size_t sample;
  Course course;
  std::vector<TokenId> tokens;              // while it waits
  std::unique_ptr<Sequence> sequence = {};  // while it runs
  std::optional<Generator::Request> request = {};
  int64_t share = 0;  // of the next Batch
  int64_t cached = 0;
  bool prompt = false;  // the request has more than a token and its drafts
  bool preempted = false, suspect = false, stopped = false, ended = false;
  int64_t held_at = -1;                                // how far the prompt was whose pages it waits for
  int held = 0;                                        // and for how many steps
  std::vector<std::unique_ptr<Stream>> siblings = {};  // go on from its prompt

  auto rank() const { return std::tuple(job->asked.priority, job->id, sample); }
  int64_t known() const { return static_cast<int64_t>(sequence ? sequence->tokens.size() : tokens.size()); }
  int64_t pending() const { return known() - sequence->length(); }
};

Scheduler::Scheduler(Generator& generator, const SchedulerOptions& options)
    : generator_(generator),
      options_(options),
      limits_(generator.device().limits()),
      context_(std::min(generator.model().spec().max_position_embeddings, generator.cache().options().max_tokens)),
      budget_(limits_.max_rows) {
  check(options.budget >= 0, "max_num_batched_tokens: ", options.budget, " is negative; 0 adapts it");
  check(options.max_num_seqs >= 0, "max_num_seqs: ", options.max_num_seqs, " is negative; 0 is what cache and device take");
  max_num_seqs_ = std::min({generator.cache().options().max_sequences, limits_.max_logit_rows, limits_.free_rows});
  if (options.max_num_seqs > 0) max_num_seqs_ = std::min(max_num_seqs_, options.max_num_seqs);
  running_.reserve(static_cast<size_t>(max_num_seqs_));
}

Scheduler::~Scheduler() {
  take_incoming();
  for (const auto* list : {&running_, &waiting_})
    for (const auto& stream : *list) end(*stream, FinishReason::cancelled);
}

void Scheduler::expect_possible(const ScheduledRequest& request) const {
  const int64_t vocab = generator_.model().spec().vocab_size, prompt = static_cast<int64_t>(request.prompt.size());
  check(prompt > 0, "prompt: it has no tokens");
  for (const TokenId token : request.prompt)
    check(token >= 0 && token < vocab, "prompt: token ", token, " is outside the vocabulary of ", vocab);
  check_sampling(request.sampling, vocab);
  check(request.max_new_tokens >= 0, "max_new_tokens: ", request.max_new_tokens, " is negative");
  check(request.n >= 1, "n: ", request.n, " must be at least 1");
  check(request.logprobs.value_or(0) >= 0, "logprobs: ", request.logprobs.value_or(0), " is negative");
  check(request.prompt_logprobs.value_or(0) >= 0, "prompt_logprobs: ", request.prompt_logprobs.value_or(0), " is negative");
  check(request.prompt_lookup >= 0, "prompt_lookup: ", request.prompt_lookup, " is negative");
  check(prompt <= context_, "prompt: its ", prompt, " tokens are more than the context of ", context_, "; shorten it");
  check(request.max_new_tokens <= context_ - prompt, "max_new_tokens: ", request.max_new_tokens, " behind a prompt of ", prompt,
        " tokens end past the context of ", context_, "; ask for at most ", context_ - prompt);
}

Scheduler::Id Scheduler::submit(ScheduledRequest request) {
  expect_possible(request);
  const auto job = std::make_shared<Job>();
  job->asked = std::move(request);
  job->arrived = Clock::now();
  const ScheduledRequest& asked = job->asked;
  job->left = asked.n;
  const auto prompt = static_cast<int64_t>(asked.prompt.size());
  Sampler sampler(asked.sampling, asked.end_tokens);
  sampler.set_max_length(prompt + asked.max_new_tokens);
  const auto make = [&](size_t sample) {
    return std::make_unique<Stream>(Stream{.job = job,
                                           .sample = sample,
                                           .course = Course(sampler, {.max_new_tokens = asked.max_new_tokens,
                                                                      .prompt = asked.prompt.size(),
                                                                      .sample = sample,
                                                                      .drafter = asked.prompt_lookup > 0 ? &lookup_ : nullptr,
                                                                      .max_draft = asked.prompt_lookup,
                                                                      .logprobs = asked.logprobs,
                                                                      .prompt_logprobs = sample == 0 ? asked.prompt_logprobs : std::nullopt,
                                                                      .constraint = asked.constraint ? asked.constraint->fork() : nullptr}),
                                           .tokens = asked.prompt});
  };
  std::unique_ptr<Stream> leader = make(0);
  for (int64_t sample = 1; sample < asked.n; ++sample) leader->siblings.push_back(make(static_cast<size_t>(sample)));
  const std::lock_guard lock(mutex_);
  check<QueueFull>(counts_.waiting < options_.max_waiting, "the queue is full: ", counts_.waiting, " requests wait, the most there may be");
  check<QueueFull>(counts_.waiting_tokens + prompt <= options_.max_waiting_tokens, "the queue is full: prompts of ", counts_.waiting_tokens,
                   " tokens wait, and with this one's ", prompt, " there would be more than ", options_.max_waiting_tokens);
  job->id = ++last_id_;
  jobs_.emplace(job->id, job);
  try {
    incoming_.push_back(std::move(leader));
  } catch (...) {
    jobs_.erase(job->id);
    throw;
  }
  ++counts_.waiting;
  counts_.waiting_tokens += prompt;
  changed_ = true;
  wake_.notify_all();
  return job->id;
}

void Scheduler::cancel(Id id) {
  const std::lock_guard lock(mutex_);
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  found->second->cancelled = true;
  changed_ = true;
  wake_.notify_all();
}

void Scheduler::run() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (stopped_) return;
      changed_ = false;
    }
    if (step()) continue;
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return stopped_ || changed_; });
  }
}

void Scheduler::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  wake_.notify_all();
}

Scheduler::Counts Scheduler::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

double Scheduler::cache_usage() const {
  const Cache& cache = generator_.cache();
  double most = 0;
  for (size_t group = 0; group < cache.groups(); ++group) {
    const auto total = static_cast<double>(cache.total_pages(group));
    if (total > 0) most = std::max(most, 1 - static_cast<double>(cache.free_pages(group)) / total);
  }
  return most;
}

int64_t Scheduler::retry_after() const {
  const std::lock_guard lock(mutex_);
  const double usual = counts_.finished > 0 ? static_cast<double>(finished_tokens_) / static_cast<double>(counts_.finished)
                                            : std::numeric_limits<double>::max();
  double seconds = 0;
  for (const auto& [id, job] : jobs_) {
    if (job->began) continue;
    const ScheduledRequest& asked = job->asked;
    const double answers = std::min(static_cast<double>(asked.max_new_tokens), usual) * static_cast<double>(asked.n);
    seconds += static_cast<double>(asked.prompt.size()) * prompt_seconds_ + answers * decode_seconds_;
  }
  return static_cast<int64_t>(std::ceil(std::clamp(seconds, kLeastRetry, kMostRetry)));
}

bool Scheduler::step() {
  try {
    const bool more = try_step();
    failures_ = 0;
    return more;
  } catch (const DeviceError&) {
    end_all(std::current_exception());
    throw;
  } catch (...) {  // memory, most likely: what was not done is done in the next step
    remove_ended();
    if (++failures_ < kMostFailures) return true;
    end_all(std::current_exception());
    throw;
  }
}

bool Scheduler::try_step() {
  take_incoming();
  end_cancelled_and_late();
  remove_ended();
  admit();
  for (const auto& stream : running_)
    if (!stream->ended && !stream->request) propose(*stream);
  remove_ended();
  if (running_.empty()) return !waiting_.empty();
  share_out();
  make_room();
  run_batch();
  remove_ended();
  return !running_.empty() || !waiting_.empty();
}

void Scheduler::take_incoming() {
  const std::lock_guard lock(mutex_);
  waiting_.reserve(waiting_.size() + incoming_.size());
  for (; !incoming_.empty(); incoming_.pop_front()) waiting_.push_back(std::move(incoming_.front()));
}

void Scheduler::end_cancelled_and_late() {
  const auto now = Clock::now();
  const auto late = [&](const Job& job, Clock::duration after) { return after != Clock::duration::max() && now - job.arrived > after; };
  for (const auto* list : {&running_, &waiting_})
    for (const auto& stream : *list) {
      const Job& job = *stream->job;
      if (job.cancelled)
        end(*stream, FinishReason::cancelled);
      else if (late(job, job.asked.timeout) || (!job.began && late(job, job.asked.queue_timeout)))
        end(*stream, FinishReason::timeout);
    }
}

// Which pages there are for whom: the first in the order that waits for nobody's; behind one that does not fit nobody begins.
void Scheduler::admit() {
  std::vector<Stream*> passed;
  while (static_cast<int64_t>(running_.size()) < max_num_seqs_) {
    const auto key = [&](const Stream& stream) {
      const ScheduledRequest& asked = stream.job->asked;
      const auto turn = last_turn_.find(asked.owner);
      return std::tuple(asked.priority, !stream.preempted, turn == last_turn_.end() ? 0 : turn->second, stream.job->id, stream.sample);
    };
    size_t best = waiting_.size();
    for (size_t i = 0; i < waiting_.size(); ++i)
      if (!waiting_[i]->ended && std::find(passed.begin(), passed.end(), waiting_[i].get()) == passed.end() &&
          (best == waiting_.size() || key(*waiting_[i]) < key(*waiting_[best])))
        best = i;
    if (best == waiting_.size()) return;
    Stream& stream = *waiting_[best];
    const Cache::Hit hit = generator_.cached(stream.tokens, stream.job->asked.salt, 1);
    if (is_held(stream, hit)) {
      passed.push_back(&stream);
      continue;
    }
    if (!fits(stream, hit) || !start(stream)) return;
    running_.push_back(std::move(waiting_[best]));  // there is room for all that may run
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(best));
  }
}

// Whether a running prompt is about to make pages that this one begins with.
bool Scheduler::is_held(Stream& stream, const Cache::Hit& hit) {
  Cache& cache = generator_.cache();
  if (!cache.options().prefix_cache) return false;
  const Stream* maker = nullptr;
  for (const auto& other : running_) {
    if (!other->prompt || other->ended || other->job->asked.salt != stream.job->asked.salt) continue;
    if (generator_.rope_set(other->known()) != generator_.rope_set(stream.known())) continue;
    const std::vector<TokenId>& tokens = other->sequence->tokens;
    const auto same = std::mismatch(tokens.begin(), tokens.end(), stream.tokens.begin(), stream.tokens.end()).first - tokens.begin();
    const int64_t whole = std::min<int64_t>(same, stream.known() - 1) / cache.page_tokens() * cache.page_tokens();
    if (whole > hit.tokens && other->sequence->length() < whole) maker = other.get();
  }
  if (!maker) return false;
  stream.held = maker->sequence->length() == stream.held_at ? stream.held + 1 : 0;
  stream.held_at = maker->sequence->length();
  return stream.held < kMostHeld;
}

// Its prompt's pages are there beside those that the running prompts will need yet, and one for each that runs.
bool Scheduler::fits(const Stream& stream, const Cache::Hit& hit) const {
  if (running_.empty()) return true;
  const Cache& cache = generator_.cache();
  for (size_t group = 0; group < cache.groups(); ++group) {
    const auto needed = [&](int64_t tokens) { return std::min(pages(tokens, cache.page_tokens()), cache.most_pages(group)); };
    int64_t wanted = needed(stream.known() + 1 - hit.tokens) + hit.free_pages[group] + static_cast<int64_t>(running_.size());
    for (const auto& other : running_)
      if (other->prompt) wanted += needed(other->pending());
    if (wanted > cache.free_pages(group)) return false;
  }
  return true;
}

// False: other users of the cache have all its sequences.
bool Scheduler::start(Stream& stream) {
  Job& job = *stream.job;
  if (last_turn_.size() > kMostOwners) last_turn_.clear();
  uint64_t& last_turn = last_turn_[job.asked.owner];  // may fail: before anything is begun
  try {
    stream.sequence = generator_.cache().create(job.asked.salt);
  } catch (const ResourceError&) {
    if (!running_.empty()) return false;
    end(stream, FinishReason::error, std::current_exception());
    return true;
  }
  stream.sequence->tokens = std::move(stream.tokens);
  stream.tokens.clear();
  propose(stream);
  last_turn = ++turn_;
  const std::lock_guard lock(mutex_);
  ++counts_.running;
  if (stream.preempted) return true;
  const auto prompt = static_cast<int64_t>(job.asked.prompt.size());
  stream.cached = stream.sequence ? stream.sequence->length() : 0;
  counts_.prompt_tokens += prompt;
  counts_.cached += stream.cached;
  leave_queue(job);
  return true;
}

// Of a request that begins, or ends before it did; with the mutex held.
void Scheduler::leave_queue(Job& job) {
  if (std::exchange(job.began, true)) return;
  job.queued = Clock::now() - job.arrived;
  --counts_.waiting;
  counts_.waiting_tokens -= static_cast<int64_t>(job.asked.prompt.size());
}

void Scheduler::propose(Stream& stream) {
  // Drafts of all must find room among a Batch's rows; where a piece of several tokens is a Batch of its own, they would only cost time.
  const int64_t rows = limits_.max_logit_rows / std::max<int64_t>(static_cast<int64_t>(running_.size()), 1);
  try {
    stream.request = stream.course.propose(generator_, *stream.sequence, limits_.decode_tokens > 1 ? rows - 1 : 0);
    generator_.begin(std::span(&*stream.request, 1));
    stream.prompt = stream.pending() - stream.course.drafts(*stream.sequence) > 1;
  } catch (...) {
    end(stream, FinishReason::error, std::current_exception());
  }
}

// How many tokens of each the next Batch takes: of decodes first, then of prompts.
void Scheduler::share_out() {
  std::vector<Stream*> decodes, prompts;
  for (const auto& stream : running_) {
    stream->share = 0;
    (stream->prompt ? prompts : decodes).push_back(stream.get());
  }
  const auto suspect = std::find_if(running_.begin(), running_.end(), [](const auto& stream) { return stream->suspect; });
  if (suspect != running_.end()) {
    (*suspect)->share = kAll;
    return;
  }
  const auto by_rank = [](const Stream* a, const Stream* b) { return a->rank() < b->rank(); };
  std::sort(decodes.begin(), decodes.end(), by_rank);
  std::sort(prompts.begin(), prompts.end(), by_rank);
  if (limits_.decode_tokens < generator_.chunk()) return alternate(decodes, prompts);

  const int64_t budget = options_.budget > 0 ? std::min(options_.budget, limits_.max_rows) : limits_.max_rows;
  int64_t left = budget;
  // Where the decodes alone would fill it, they go on in turns, and prompts have a part.
  int64_t asked = 0;
  for (const Stream* stream : decodes) asked += stream->pending();
  if (asked >= budget && !decodes.empty()) {
    const auto first = static_cast<std::ptrdiff_t>(turn_of_decodes_++ % decodes.size());
    std::rotate(decodes.begin(), decodes.begin() + first, decodes.end());
    if (!prompts.empty()) left -= budget == 1 ? turn_of_decodes_ % 2 : std::max<int64_t>(budget / 4, 1);
  }
  int64_t decoded = 0;
  for (Stream* stream : decodes) {
    stream->share = std::min(stream->pending(), left - decoded);
    decoded += stream->share;
  }
  int64_t rest = budget - decoded;
  if (options_.budget == 0) rest = std::min(rest, budget_.prompt_tokens(decoded));
  share_prompts(prompts, rest);
}

// Half to the oldest, half to the one with least left; what these leave, to the others in their order.
void Scheduler::share_prompts(const std::vector<Stream*>& prompts, int64_t tokens) {
  if (prompts.empty()) return;
  const auto give = [&](Stream& stream, int64_t most) {
    const int64_t given = std::clamp<int64_t>(stream.pending() - stream.share, 0, std::min(most, tokens));
    stream.share += given;
    tokens -= given;
  };
  Stream& least =
      **std::min_element(prompts.begin(), prompts.end(), [](const Stream* a, const Stream* b) { return a->pending() < b->pending(); });
  if (&least != prompts.front()) give(least, tokens / 2);
  for (Stream* stream : prompts) give(*stream, tokens);
}

// A Batch of prompts is of one, and decodes are Batches of their own.
void Scheduler::alternate(const std::vector<Stream*>& decodes, const std::vector<Stream*>& prompts) {
  if (!prompts.empty() && (decodes.empty() || turns_of_prompts_ < kMostPromptTurns)) {
    const auto least = [](const Stream* a, const Stream* b) { return a->pending() < b->pending(); };
    Stream* const one = ++turns_of_prompts_ % 2 == 1 ? prompts.front() : *std::min_element(prompts.begin(), prompts.end(), least);
    one->share = options_.budget > 0 ? options_.budget : kAll;
    return;
  }
  turns_of_prompts_ = 0;
  for (Stream* stream : decodes) stream->share = stream->pending();
}

// Until the pages for the next Batch are there, the last in the order gives its own back. The first is never asked.
void Scheduler::make_room() {
  const Cache& cache = generator_.cache();
  for (;;) {
    std::vector<int64_t> needed(cache.groups());
    for (const auto& stream : running_) {
      if (stream->share == 0 || stream->ended) continue;
      const int64_t begin = stream->pending() > limits_.decode_tokens
                                ? stream->sequence->length() / limits_.chunk_alignment * limits_.chunk_alignment
                                : stream->sequence->length();
      const int64_t count = std::min({std::max(stream->share, limits_.chunk_alignment), stream->known() - begin, generator_.chunk()});
      const std::vector<int64_t> own = cache.pages_needed(*stream->sequence, begin, count);
      for (size_t group = 0; group < own.size(); ++group) needed[group] += own[group];
    }
    if (cache.has_room(needed)) return;
    const auto last =
        std::max_element(running_.begin(), running_.end(), [](const auto& a, const auto& b) { return a->rank() < b->rank(); });
    if (running_.size() == 1) return;  // its request will tell
    waiting_.reserve(waiting_.size() + 1);
    preempt(**last);
    waiting_.push_back(std::move(*last));
    running_.erase(last);
  }
}

void Scheduler::preempt(Stream& stream) {
  stream.course.abandon(generator_.cache(), *stream.sequence);
  stream.tokens = std::move(stream.sequence->tokens);
  stream.sequence.reset();
  stream.request.reset();
  stream.share = 0;
  stream.prompt = false;
  stream.preempted = true;
  const std::lock_guard lock(mutex_);
  ++counts_.preempted;
  --counts_.running;
}

void Scheduler::run_batch() {
  std::vector<Stream*> batch;
  std::vector<Generator::Request> requests;
  std::vector<Course*> courses;
  int64_t decodes = 0, prompts = 0;
  for (const bool prompt : {false, true})
    for (const auto& stream : running_) {
      if (stream->prompt != prompt || stream->share == 0) continue;
      batch.push_back(stream.get());
      requests.push_back(*stream->request);
      requests.back().share = stream->share;
      courses.push_back(&stream->course);
      (prompt ? prompts : decodes) -= stream->sequence->length();
    }
  const auto start = Clock::now();
  std::optional<LogitRows> rows;
  try {
    rows = generator_.step(requests);
    for (const Stream* stream : batch) (stream->prompt ? prompts : decodes) += stream->sequence->length();
    if (rows && rows->size() > 0) choose_by_rows(generator_.device(), *rows, courses, requests);
  } catch (const DeviceError&) {
    throw;
  } catch (...) {  // whose fault it is shows when each goes alone
    if (batch.size() == 1) end(*batch.front(), FinishReason::error, std::current_exception());
    for (Stream* stream : batch) stream->suspect = true;
    return;
  }
  const size_t begun = running_.size();
  for (size_t i = 0; i < batch.size(); ++i) {
    Stream& stream = *batch[i];
    stream.suspect = false;
    if (requests[i].error) {
      tell(stream);  // what came before it, as it would without drafts
      end(stream, FinishReason::error, requests[i].error);
      continue;
    }
    if (stream.pending() == 0 && !stream.siblings.empty()) fork_siblings(stream, rows ? &*rows : nullptr, i);
    take(stream);
  }
  for (size_t i = begun; i < running_.size(); ++i) take(*running_[i]);
  budget_.saw(decodes, prompts, std::chrono::duration<double>(Clock::now() - start).count());
  const std::lock_guard lock(mutex_);
  ++counts_.steps;
  counts_.computed += decodes + prompts;
  prompt_seconds_ = budget_.prompt_seconds();
  if (decodes > 0) decode_seconds_ = budget_.decode_seconds(decodes) / static_cast<double>(decodes);
}

// The samples behind a prompt that has just been computed begin with its pages, and choose by its last row; those that find no room wait.
void Scheduler::fork_siblings(Stream& leader, LogitRows* rows, size_t request) {
  std::optional<LogitRow> last;
  for (size_t row = 0; rows && row < rows->size(); ++row)
    if (rows->place(row).request == request) last = (*rows)[row];
  waiting_.reserve(waiting_.size() + leader.siblings.size());
  std::vector<std::unique_ptr<Stream>> siblings = std::move(leader.siblings);
  leader.siblings.clear();
  for (std::unique_ptr<Stream>& sibling : siblings) {
    if (last && static_cast<int64_t>(running_.size()) < max_num_seqs_) {
      try {
        sibling->sequence = generator_.cache().fork(*leader.sequence);
      } catch (const ResourceError&) {
      } catch (const std::bad_alloc&) {
      }
    }
    if (!sibling->sequence) {
      waiting_.push_back(std::move(sibling));
      continue;
    }
    sibling->tokens.clear();
    sibling->cached = leader.known();
    running_.push_back(std::move(sibling));
    Stream& stream = *running_.back();
    {
      const std::lock_guard lock(mutex_);
      ++counts_.running;
    }
    try {
      stream.request = stream.course.propose(generator_, *stream.sequence, 0);
      if (!stream.course.choose(*stream.sequence, *last)) stream.course.choose(*stream.sequence, *last);
    } catch (...) {
      end(stream, FinishReason::error, std::current_exception());
    }
  }
}

// What was chosen for a stream is told; a forward that came to its end is settled.
void Scheduler::take(Stream& stream) {
  tell(stream);
  if (stream.ended || (stream.pending() > 0 && !stream.course.ended())) return;
  try {
    stream.course.settle(generator_.cache(), *stream.sequence);
  } catch (...) {
    return end(stream, FinishReason::error, std::current_exception());
  }
  stream.request.reset();
  stream.prompt = false;
  if (stream.course.ended()) end(stream, stream.stopped ? FinishReason::stop : FinishReason::length);
}

void Scheduler::tell(Stream& stream) {
  if (stream.ended) return;
  Job& job = *stream.job;
  const ScheduledRequest& asked = job.asked;
  int64_t told = 0;
  try {
    if (asked.prompt_logprobs && stream.sample == 0 && !job.prompt_told &&
        stream.course.prompt_logprobs().size() + 1 == asked.prompt.size()) {
      job.prompt_told = true;
      if (asked.on_prompt) asked.on_prompt(stream.course.prompt_logprobs());
    }
    stream.course.tell([&](const Course::Chosen& chosen) {
      ++told;
      const ScheduledRequest::Token token{stream.sample, chosen.id, chosen.end, chosen.logprobs ? &*chosen.logprobs : nullptr,
                                          stream.cached, job.queued};
      const bool goes_on = !asked.on_token || asked.on_token(token);
      stream.stopped = stream.stopped || !goes_on || chosen.end;
      return goes_on;
    });
  } catch (...) {
    end(stream, FinishReason::error, std::current_exception());
  }
  const std::lock_guard lock(mutex_);
  counts_.generated += told;
}

// Its pages go at once; it leaves its list with remove_ended.
void Scheduler::end(Stream& stream, FinishReason reason, std::exception_ptr error) {
  if (std::exchange(stream.ended, true)) return;
  stream.request.reset();
  Job& job = *stream.job;
  {
    const std::lock_guard lock(mutex_);
    if (stream.sequence) --counts_.running;
    leave_queue(job);
    ++counts_.finished;
    finished_tokens_ += stream.course.new_tokens();
    counts_.drafted += stream.course.drafted();
    counts_.accepted += stream.course.accepted();
    if (--job.left == 0) jobs_.erase(job.id);
  }
  stream.sequence.reset();
  if (job.asked.on_end)
    job.asked.on_end({.sample = stream.sample,
                      .reason = reason,
                      .error = error,
                      .prompt_tokens = static_cast<int64_t>(job.asked.prompt.size()),
                      .cached_tokens = stream.cached,
                      .new_tokens = stream.course.new_tokens(),
                      .drafted = stream.course.drafted(),
                      .accepted = stream.course.accepted(),
                      .queued = job.queued});
  for (const auto& sibling : stream.siblings) end(*sibling, reason, error);
}

void Scheduler::end_all(const std::exception_ptr& error) {
  take_incoming();
  for (const auto* list : {&running_, &waiting_})
    for (const auto& stream : *list) end(*stream, FinishReason::error, error);
  remove_ended();
}

void Scheduler::remove_ended() {
  for (auto* list : {&running_, &waiting_}) std::erase_if(*list, [](const auto& stream) { return stream->ended; });
}

}  // namespace tessera

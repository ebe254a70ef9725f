#include "grammar/grammar_compiler.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "grammar/helper_process.h"
#include "grammar/schema_caps.h"
#include "grammar/worker_messages.h"

namespace tessera {
namespace {

using Outcome = grammar::HelperProcess::Outcome;

constexpr double kStartSeconds = 60;  // Python's start on a busy machine, and sorting the vocabulary

grammar::Deadline after(double seconds) {
  return std::chrono::steady_clock::now() +
         std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(seconds));
}

std::string key_of(const GrammarSource& source) {
  return std::string{static_cast<char>('0' + static_cast<int>(source.kind)), source.strict ? 's' : 'n'} + source.text;
}

}  // namespace

// The right to use the process, from construction to destruction. The compiler's mutex is held at both.
class GrammarCompiler::Turn {
 public:
  Turn(GrammarCompiler& compiler, const std::string& owner, std::unique_lock<std::mutex>& lock) : compiler_(compiler), lock_(lock) {
    std::deque<const Turn*>& queue = compiler.waiting_[owner];
    if (queue.size() >= compiler.options_.max_waiting)
      fail<ResourceError>("grammar: ", queue.size(), " forms of this client are waiting to be compiled; try again later");
    if (queue.empty()) compiler.owners_.push_back(owner);
    queue.push_back(this);
    ++compiler.waiting_count_;
    if (compiler.running_ == nullptr) compiler.next();
    compiler.turn_ended_.wait(lock, [&] { return compiler.running_ == this; });
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (!lock_.owns_lock()) lock_.lock();
    --compiler_.waiting_count_;
    compiler_.next();
  }

 private:
  GrammarCompiler& compiler_;
  std::unique_lock<std::mutex>& lock_;
};

GrammarCompiler::GrammarCompiler(GrammarVocabulary vocabulary, GrammarCompilerOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  start();
}

GrammarCompiler::~GrammarCompiler() = default;

size_t GrammarCompiler::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_count_;
}

void GrammarCompiler::next() {
  running_ = nullptr;
  if (!owners_.empty()) {
    const std::string owner = std::move(owners_.front());
    owners_.pop_front();
    const auto queue = waiting_.find(owner);
    running_ = queue->second.front();
    queue->second.pop_front();
    if (queue->second.empty()) {
      waiting_.erase(queue);
    } else {
      owners_.push_back(owner);
    }
  }
  turn_ended_.notify_all();
}

GrammarCompiler::Result GrammarCompiler::compile(const GrammarSource& source, const std::string& owner) {
  if (const auto reason = refusal(source)) fail(*reason);
  const std::string key = key_of(source);
  std::unique_lock lock(mutex_);
  if (const Known* known = find(key)) return result_of(*known);
  const Turn turn(*this, owner, lock);
  if (const Known* known = find(key)) return result_of(*known);  // another's turn has made it
  lock.unlock();
  Known known = ask(source, key);
  lock.lock();
  const Result result = known.grammar;
  std::string refusal = known.refusal;
  keep(std::move(known));
  check(result != nullptr, refusal);
  return result;
}

GrammarCompiler::Result GrammarCompiler::result_of(const Known& known) {
  check(known.grammar != nullptr, known.refusal);
  return known.grammar;
}

const GrammarCompiler::Known* GrammarCompiler::find(const std::string& key) {
  const auto found = known_by_key_.find(key);
  if (found == known_by_key_.end()) return nullptr;
  known_.splice(known_.begin(), known_, found->second);
  return &known_.front();
}

void GrammarCompiler::keep(Known known) {
  known_bytes_ += known.bytes;
  known_.push_front(std::move(known));
  known_by_key_[known_.front().key] = known_.begin();
  while (known_bytes_ > options_.cache_bytes) {
    known_bytes_ -= known_.back().bytes;
    known_by_key_.erase(known_.back().key);
    known_.pop_back();
  }
}

GrammarCompiler::Known GrammarCompiler::ask(const GrammarSource& source, const std::string& key) {
  const grammar::Limits limits{options_.cpu_seconds, options_.memory_bytes, static_cast<int64_t>(options_.result_bytes)};
  const std::string request = grammar::write_request({source, limits});
  grammar::Reply reply = exchange(request);
  constexpr size_t kEntryBytes = 512;  // about
  if (reply.is_refused) return {key, nullptr, reply.text, key.size() + reply.text.size() + kEntryBytes};
  Result result = CompiledGrammar::read(vocabulary_, reply.text);
  const size_t bytes = result->bytes() + key.size() + kEntryBytes;
  return {key, std::move(result), "", bytes};
}

// A process that ended for a reason of its own is started anew once; a form only ends a child of it.
grammar::Reply GrammarCompiler::exchange(const std::string& request) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!helper_) start();
    std::string reply;
    const grammar::Deadline deadline = after(options_.wall_seconds);
    Outcome outcome = helper_->send(request, deadline);
    if (outcome == Outcome::done) outcome = helper_->receive(reply, options_.result_bytes + (1 << 10), deadline);
    if (outcome == Outcome::done) return grammar::read_reply(reply);
    helper_.reset();
    if (outcome == Outcome::late)
      fail<ResourceError>("grammar: a form was not compiled within ", options_.wall_seconds, " s; try again later");
  }
  fail<ResourceError>("grammar: the process that compiles forms ended twice; try again later");
}

void GrammarCompiler::start() {
  auto helper = std::make_unique<grammar::HelperProcess>(options_.command);
  const grammar::Deadline deadline = after(kStartSeconds);
  std::string ready;
  check<ResourceError>(helper->send(grammar::write_vocabulary(vocabulary_), deadline) == Outcome::done &&
                           helper->receive(ready, 0, deadline) == Outcome::done,
                       "grammar: the process that compiles forms did not start: ", options_.command.at(0));
  helper_ = std::move(helper);
}

}  // namespace tessera

#include "generate/generation.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "generate/speculation.h"

namespace tessera {
namespace {

constexpr int64_t kFirstDraft = 4, kMissesBeforeRest = 3, kLongestRest = 8;

}  // namespace

Generation::Generation(Sequence& sequence, Sampler& sampler, GenerationOptions options)
    : sequence_(sequence),
      sampler_(sampler),
      options_(std::move(options)),
      prompt_(options_.prompt.value_or(sequence.tokens.size())),
      length_(std::min(options_.max_draft, kFirstDraft)) {}

Generator::Request Generation::propose(const Generator& generator) {
  std::vector<TokenId>& tokens = sequence_.tokens;
  known_ = right_ = tokens.size();
  next_.reset();
  if (options_.max_new_tokens == 0) return {&sequence_, 0};
  const bool prompt_is_new = static_cast<int64_t>(known_) - sequence_.length() > 1;  // its first token is not to wait for a draft
  // A windowed cache goes back by rewind_tokens at most without computing anew.
  const int64_t count = std::min(
      {length_, options_.max_new_tokens - new_tokens_ - 1, generator.room_behind(known_), generator.cache().options().rewind_tokens});
  if (rest_ > 0) {
    --rest_;
  } else if (options_.drafter && count > 0 && !prompt_is_new) {
    const std::vector<TokenId> draft = options_.drafter->draft(tokens, prompt_, count);
    tokens.insert(tokens.end(), draft.begin(), draft.end());
  }
  return {&sequence_, static_cast<int64_t>(tokens.size() - known_) + 1};
}

// Of the logits the device gives only as many as the sampler needs; behind drafts all, of whose rows a card would choose by a program for
// each number of them.
TokenId Generation::choose(const Generator::Row& row) {
  const auto tokens = std::span<const TokenId>(sequence_.tokens).first(right_);
  const int64_t enough = sequence_.tokens.size() == known_ ? sampler_.enough(tokens.size() - prompt_) : 0;
  if (enough == 1) return row.argmax();
  if (enough > 1 && enough <= row.vocab())
    if (const auto token = sampler_.sample(row.topk(enough), tokens.size(), options_.sample)) return *token;
  return sampler_.sample(row, tokens, prompt_, options_.sample);
}

void Generation::verify(const Generator::Row& row) {
  if (!going_ || next_) return;
  const TokenId id = choose(row);
  const bool end = sampler_.ends(id), foreseen = right_ < sequence_.tokens.size() && sequence_.tokens[right_] == id;
  if (!end && foreseen) ++right_;
  if (!end && !foreseen) next_ = id;
  ++new_tokens_;
  going_ = !end;
  if (options_.goes_on && !options_.goes_on({id, end, row})) going_ = false;
}

void Generation::settle(Cache& cache) {
  adapt(static_cast<int64_t>(sequence_.tokens.size() - known_), static_cast<int64_t>(right_ - known_));
  cache.truncate(sequence_, static_cast<int64_t>(right_));
  if (next_) sequence_.tokens.push_back(*next_);
  going_ = going_ && new_tokens_ < options_.max_new_tokens;
}

void Generation::adapt(int64_t drafted, int64_t accepted) {
  drafted_ += drafted;
  accepted_ += accepted;
  if (drafted == 0) return;
  length_ = accepted == drafted ? std::min(options_.max_draft, 2 * length_) : std::max<int64_t>(1, drafted / 2);
  misses_ = accepted == 0 ? misses_ + 1 : 0;
  rest_ = std::clamp<int64_t>(misses_ - kMissesBeforeRest, 0, kLongestRest);
}

bool advance(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress) {
  std::vector<Generation*> going;
  for (Generation& one : generations)
    if (one.going_) going.push_back(&one);
  if (going.empty()) return false;
  std::vector<Generator::Request> requests;
  requests.reserve(going.size());
  std::exception_ptr error;
  try {
    for (Generation* const one : going) requests.push_back(one->propose(generator));
    generator.forward(requests, [&](size_t i, int64_t, const Generator::Row& row) { going[i]->verify(row); }, progress);
  } catch (...) {
    error = std::current_exception();
  }
  for (size_t i = 0; i < requests.size(); ++i) going[i]->settle(generator.cache());
  for (const Generator::Request& request : requests)
    if (!error) error = request.error;
  if (error) std::rethrow_exception(error);
  return true;
}

void generate(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress) {
  while (advance(generator, generations, progress)) {
  }
}

}  // namespace tessera

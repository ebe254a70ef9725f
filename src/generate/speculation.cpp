#include "generate/speculation.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace tessera {
namespace {

constexpr size_t kLongestMatch = 16;
constexpr int64_t kFirstDraft = 4, kMissesBeforeRest = 3, kLongestRest = 8;

int64_t count_of(std::span<const TokenId> tokens) { return static_cast<int64_t>(tokens.size()); }

// How many tokens may follow `known` in the model's context and with the same set of LongRoPE's factors.
int64_t room_behind(int64_t known, const Generator& generator) {
  int64_t end = std::min(generator.model().spec().max_position_embeddings, generator.cache().options().max_tokens);
  if (const auto boundary = generator.model().spec().recompute_after; boundary && known <= *boundary) end = std::min(end, *boundary);
  return end - known;
}

}  // namespace

std::vector<TokenId> PromptLookup::draft(std::span<const TokenId> tokens, size_t, int64_t count) {
  const size_t size = tokens.size();
  size_t longest = 0, follows = 0;
  for (size_t end = size; end-- > 1 && longest < kLongestMatch;) {  // of a piece that stood before
    size_t match = 0;
    while (match < std::min(end, kLongestMatch) && tokens[end - 1 - match] == tokens[size - 1 - match]) ++match;
    if (match > longest) {
      longest = match;
      follows = end;
    }
  }
  if (longest == 0) return {};
  std::vector<TokenId> draft;
  for (size_t i = follows; count-- > 0; ++i) draft.push_back(i < size ? tokens[i] : draft[i - size]);
  return draft;
}

DraftModel::DraftModel(Generator& generator, Sampler sampler, int64_t vocab_size)
    : generator_(generator),
      sampler_(std::move(sampler)),
      vocab_size_(static_cast<size_t>(vocab_size)),
      sequence_(generator.cache().create()) {}

std::vector<TokenId> DraftModel::draft(std::span<const TokenId> tokens, size_t prompt, int64_t count) {
  const auto unknown = [&](TokenId token) { return token >= generator_.model().spec().vocab_size; };
  count = std::min(count, room_behind(count_of(tokens), generator_));
  if (count <= 0 || std::any_of(tokens.begin(), tokens.end(), unknown)) return {};
  std::vector<TokenId>& own = sequence_->tokens;
  const auto same = std::mismatch(own.begin(), own.end(), tokens.begin(), tokens.end()).first - own.begin();
  generator_.cache().truncate(*sequence_, same);
  own.insert(own.end(), tokens.begin() + same, tokens.end());
  while (count-- > 0) {
    std::vector<float> logits = generator_.forward(*sequence_);
    logits.resize(vocab_size_, -std::numeric_limits<float>::infinity());
    own.push_back(sampler_.sample(logits, own, prompt));
    if (unknown(own.back())) break;
  }
  return {own.begin() + count_of(tokens), own.end()};
}

Speculation::Speculation(Sequence& sequence, Sampler& sampler, size_t prompt, Drafter* drafter, int64_t most)
    : sequence_(sequence), sampler_(sampler), prompt_(prompt), drafter_(drafter), most_(most), length_(std::min(most, kFirstDraft)) {}

Generator::Request Speculation::propose(const Generator& generator, int64_t room) {
  std::vector<TokenId>& tokens = sequence_.tokens;
  known_ = right_ = tokens.size();
  next_.reset();
  // A windowed cache goes back by rewind_tokens at most without computing anew.
  const int64_t count = std::min({length_, room - 1, room_behind(count_of(tokens), generator), generator.cache().options().rewind_tokens});
  if (rest_ > 0) {
    --rest_;
  } else if (drafter_ && count > 0) {
    const std::vector<TokenId> draft = drafter_->draft(tokens, prompt_, count);
    tokens.insert(tokens.end(), draft.begin(), draft.end());
  }
  return {&sequence_, static_cast<int64_t>(tokens.size() - known_) + 1};
}

void Speculation::verify(std::span<const float> logits) {
  if (next_) return;
  const std::span<const TokenId> tokens = sequence_.tokens;
  const TokenId token = sampler_.sample(logits, tokens.first(right_), prompt_);
  if (right_ < tokens.size() && tokens[right_] == token) {
    ++right_;
  } else {
    next_ = token;
  }
}

std::span<const TokenId> Speculation::settle(Cache& cache) {
  adapt(static_cast<int64_t>(sequence_.tokens.size() - known_), static_cast<int64_t>(right_ - known_));
  cache.truncate(sequence_, static_cast<int64_t>(right_));
  if (next_) sequence_.tokens.push_back(*next_);
  return std::span<const TokenId>(sequence_.tokens).subspan(known_);
}

void Speculation::adapt(int64_t drafted, int64_t accepted) {
  drafted_ += drafted;
  accepted_ += accepted;
  if (drafted == 0) return;
  length_ = accepted == drafted ? std::min(most_, 2 * length_) : std::max<int64_t>(1, drafted / 2);
  misses_ = accepted == 0 ? misses_ + 1 : 0;
  rest_ = std::clamp<int64_t>(misses_ - kMissesBeforeRest, 0, kLongestRest);
}

std::span<const TokenId> Speculation::advance(Generator& generator, int64_t room) {
  if (drafter_ == nullptr) {
    sequence_.tokens.push_back(generator.sample(sequence_, sampler_, prompt_));
    return std::span<const TokenId>(sequence_.tokens).last(1);
  }
  Generator::Request request = propose(generator, room);
  try {
    generator.forward(std::span(&request, 1), [&](size_t, int64_t, std::span<const float> logits) { verify(logits); });
    if (request.error) std::rethrow_exception(request.error);
  } catch (...) {
    settle(generator.cache());
    throw;
  }
  return settle(generator.cache());
}

}  // namespace tessera

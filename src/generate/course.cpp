#include "generate/course.h"

#include <algorithm>
#include <utility>

#include "generate/speculation.h"

namespace tessera {
namespace {

constexpr int64_t kFirstDraft = 4, kMissesBeforeRest = 3, kLongestRest = 8;

}  // namespace

Course::Course(Sampler sampler, const CourseOptions& options)
    : sampler_(std::move(sampler)), options_(options), left_(options.max_new_tokens), length_(std::min(options.max_draft, kFirstDraft)) {}

Generator::Request Course::propose(const Generator& generator, Sequence& sequence, int64_t most_draft) {
  std::vector<TokenId>& tokens = sequence.tokens;
  // So that settle finds room.
  if (const size_t most = tokens.size() + static_cast<size_t>(options_.max_draft) + 1; most > tokens.capacity())
    tokens.reserve(std::max(most, 2 * tokens.capacity()));
  known_ = right_ = tokens.size();
  next_.reset();
  chosen_.clear();
  enough_ = options_.logprobs ? 0 : sampler_.enough(known_ - options_.prompt);
  if (options_.prompt_logprobs && prompt_logprobs_.size() + 1 < options_.prompt) {
    prompt_logprobs_.clear();
    enough_ = 0;
    return {.sequence = &sequence, .logit_rows = static_cast<int64_t>(known_), .settled = static_cast<int64_t>(known_)};
  }
  if (left_ == 0) return {.sequence = &sequence, .logit_rows = 0, .settled = static_cast<int64_t>(known_)};
  const bool prompt_is_new = static_cast<int64_t>(known_) - sequence.length() != 1;  // its first token is not to wait for a draft
  // A windowed cache goes back by rewind_tokens at most without computing anew.
  const int64_t count =
      std::min({length_, left_ - 1, most_draft, generator.room_behind(known_), generator.cache().options().rewind_tokens});
  if (rest_ > 0) {
    --rest_;
  } else if (options_.drafter && count > 0 && !prompt_is_new) {
    const std::vector<TokenId> draft = options_.drafter->draft(tokens, options_.prompt, count);
    tokens.insert(tokens.end(), draft.begin(), draft.end());
    // Of rows behind drafts a card would choose by a program for each number of them: all logits are read.
    if (!draft.empty()) enough_ = 0;
  }
  return {.sequence = &sequence, .logit_rows = static_cast<int64_t>(tokens.size() - known_) + 1, .settled = static_cast<int64_t>(known_)};
}

bool Course::choose(const Sequence& sequence, const LogitRow& row) {
  const std::vector<TokenId>& tokens = sequence.tokens;
  if (const auto behind = static_cast<size_t>(row.position()) + 1; behind < known_) {
    prompt_logprobs_.push_back(token_logprobs(row, tokens[behind], *options_.prompt_logprobs));
    return true;
  }
  if (ended_ || next_ || left_ == 0) return true;
  std::optional<TokenId> id;
  if (enough_ == 1)
    id = row.argmax();
  else if (enough_ > 1 && enough_ <= row.vocab())
    id = sampler_.sample(row.topk(enough_), right_, options_.sample);
  if (!id && enough_ > 0) {
    enough_ = 0;
    return false;
  }
  if (!id) id = sampler_.sample(row, std::span(tokens).first(right_), options_.prompt, options_.sample);
  const bool foreseen = right_ < tokens.size() && tokens[right_] == *id;
  const bool end = sampler_.ends(*id);
  chosen_.push_back({*id, end, row, {}});
  if (options_.logprobs) chosen_.back().logprobs = token_logprobs(row, *id, *options_.logprobs);
  ended_ = end;
  if (!end && foreseen) ++right_;
  if (!end && !foreseen) next_ = *id;
  --left_;
  return true;
}

// The last `dropped` of the tokens that were chosen do not count, of which the last ends the text or not.
void Course::end_before(size_t dropped, bool end) {
  ended_ = true;
  if (dropped == 0) return;
  const bool last_foreseen = !end && !next_;  // the others were
  right_ -= last_foreseen ? dropped : dropped - 1;
  next_.reset();
  left_ += static_cast<int64_t>(dropped);
}

void Course::settle(Cache& cache, Sequence& sequence) {
  const auto drafted = static_cast<int64_t>(sequence.tokens.size() - known_), accepted = static_cast<int64_t>(right_ - known_);
  cache.truncate(sequence, static_cast<int64_t>(right_));
  if (next_) sequence.tokens.push_back(*next_);
  ended_ = ended_ || left_ == 0;
  if (drafted == 0) return;
  drafted_ += drafted;
  accepted_ += accepted;
  length_ = accepted == drafted ? std::min(options_.max_draft, 2 * length_) : std::max<int64_t>(1, drafted / 2);
  misses_ = accepted == 0 ? misses_ + 1 : 0;
  rest_ = std::clamp<int64_t>(misses_ - kMissesBeforeRest, 0, kLongestRest);
}

void Course::abandon(Cache& cache, Sequence& sequence) {
  if (!chosen_.empty()) {
    end_before(chosen_.size(), chosen_.back().end);
    ended_ = false;
    chosen_.clear();
  }
  cache.truncate(sequence, static_cast<int64_t>(std::min(right_, sequence.tokens.size())));
  if (next_) sequence.tokens.push_back(*next_);
  next_.reset();
}

void choose_by_rows(Device& device, LogitRows& rows, std::span<Course* const> courses, std::span<Generator::Request> requests) {
  // Rows of a request are neighbours: pieces of work.
  std::vector<std::pair<size_t, size_t>> pieces;
  std::vector<int64_t> enough;
  for (size_t row = 0; row < rows.size(); ++row) {
    const size_t request = rows.place(row).request;
    if (row == 0 || rows.place(row - 1).request != request) pieces.emplace_back(row, row);
    pieces.back().second = row + 1;
    enough.push_back(courses[request]->enough());
  }
  rows.fetch(enough);
  std::vector<size_t> left(pieces.size());  // the first row of each that wants all its logits
  const auto choose = [&](size_t piece, size_t first) {
    const size_t request = rows.place(pieces[piece].first).request;
    left[piece] = pieces[piece].second;
    try {
      for (size_t row = first; row < pieces[piece].second; ++row)
        if (!courses[request]->choose(*requests[request].sequence, rows[row])) {
          left[piece] = row;
          return;
        }
    } catch (...) {
      requests[request].error = std::current_exception();
    }
  };
  device.parallel_for(static_cast<int64_t>(pieces.size()),
                      [&](int64_t piece) { choose(static_cast<size_t>(piece), pieces[static_cast<size_t>(piece)].first); });
  for (size_t piece = 0; piece < pieces.size(); ++piece)
    if (left[piece] < pieces[piece].second) choose(piece, left[piece]);
}

}  // namespace tessera

#include "generate/course.h"

#include <algorithm>
#include <utility>

#include "generate/speculation.h"

namespace tessera {
namespace {

constexpr int64_t kFirstDraft = 4, kMissesBeforeRest = 3, kLongestRest = 8;

}  // namespace

Course::Course(Sampler sampler, CourseOptions options)
    : sampler_(std::move(sampler)),
      options_(std::move(options)),
      left_(options_.max_new_tokens),
      length_(std::min(options_.max_draft, kFirstDraft)) {}

Generator::Request Course::propose(const Generator& generator, Sequence& sequence, int64_t most_draft) {
  std::vector<TokenId>& tokens = sequence.tokens;
  // So that settle finds room.
  if (const size_t most = tokens.size() + static_cast<size_t>(options_.max_draft) + 1; most > tokens.capacity())
    tokens.reserve(std::max(most, 2 * tokens.capacity()));
  known_ = right_ = tokens.size();
  next_.reset();
  chosen_.clear();
  enough_ = options_.logprobs ? 0 : sampler_.enough(known_ - options_.prompt);
  constrains_.reset();
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
  look(row.vocab());
  const AllowedTokens allowed = this->allowed();
  std::optional<TokenId> id = sampler_.forced(right_ - options_.prompt, allowed);
  if (!id && enough_ == 1) id = row.argmax();
  if (!id && enough_ > 1 && enough_ <= row.vocab())
    id = sampler_.sample(row.topk(enough_), right_, options_.prompt, options_.sample, allowed);
  if (!id && enough_ > 0) {
    enough_ = 0;
    return false;
  }
  if (!id) id = sampler_.sample(row, std::span(tokens).first(right_), options_.prompt, options_.sample, allowed);
  const bool foreseen = right_ < tokens.size() && tokens[right_] == *id;
  const bool end = sampler_.ends(*id);
  std::optional<TokenLogprobs> logprobs;
  if (options_.logprobs) logprobs = token_logprobs(row, *id, *options_.logprobs);
  chosen_.reserve(chosen_.size() + 1);  // nothing fails behind accept
  if (options_.constraint) options_.constraint->accept(*id);
  chosen_.push_back({*id, end, row, std::move(logprobs)});
  constrains_.reset();
  ended_ = end;
  if (!end && foreseen) ++right_;
  if (!end && !foreseen) next_ = *id;
  --left_;
  return true;
}

void Course::look(int64_t vocab) {
  if (!options_.constraint || constrains_ || ended_ || next_ || left_ == 0) return;
  bits_.assign(static_cast<size_t>((vocab + 31) / 32), 0);
  constrains_ = options_.constraint->allowed(bits_);
  if (vocab % 32 != 0) bits_.back() &= static_cast<int32_t>((1u << (vocab % 32)) - 1);
  if (enough_ != 0) enough_ = sampler_.enough(right_ - options_.prompt, allowed());
}

// The last `dropped` of the tokens that were chosen do not count, of which the last ends the text or not.
void Course::end_before(size_t dropped, bool end) {
  ended_ = true;
  if (dropped == 0) return;
  const bool last_foreseen = !end && !next_;  // the others were
  right_ -= last_foreseen ? dropped : dropped - 1;
  next_.reset();
  left_ += static_cast<int64_t>(dropped);
  if (!options_.constraint) return;
  options_.constraint->rollback(static_cast<int64_t>(dropped));
  constrains_.reset();
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
  struct Piece {
    size_t request, row, end;  // its next row, and behind its last
  };
  std::vector<Piece> pieces;
  for (size_t row = 0; row < rows.size(); ++row) {
    const size_t request = rows.place(row).request;
    if (row == 0 || rows.place(row - 1).request != request) pieces.push_back({request, row, row});
    pieces.back().end = row + 1;
  }
  const auto each = [&](const auto& run) {
    device.parallel_for(std::ssize(pieces), [&](int64_t index) {
      Piece& piece = pieces[static_cast<size_t>(index)];
      try {
        run(piece);
      } catch (...) {
        requests[piece.request].error = std::current_exception();
        piece.row = piece.end;
      }
    });
  };
  if (std::ranges::any_of(pieces, [&](const Piece& piece) { return courses[piece.request]->is_constrained(); }))
    each([&](Piece& piece) {
      if (Course& course = *courses[piece.request]; course.enough() != 0)
        course.look(rows.vocab());  // who needs all logits looks in choose
    });
  // Those that want all logits after all are looked at twice.
  std::vector<int64_t> enough(rows.size(), -1);
  while (!pieces.empty()) {
    std::ranges::fill(enough, -1);
    for (const Piece& piece : pieces)
      for (size_t row = piece.row; row < piece.end; ++row) enough[row] = courses[piece.request]->enough();
    rows.fetch(enough);
    each([&](Piece& piece) {
      while (piece.row < piece.end && courses[piece.request]->choose(*requests[piece.request].sequence, rows[piece.row])) ++piece.row;
    });
    std::erase_if(pieces, [](const Piece& piece) { return piece.row == piece.end; });
  }
}

}  // namespace tessera

#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "generate/generator.h"
#include "generate/logprobs.h"
#include "generate/sampler.h"
#include "generate/token_constraint.h"

namespace tessera {

class Drafter;

// How a sequence is to go on.
struct CourseOptions {
  int64_t max_new_tokens = 0;  // 0: the tokens are computed, and none is chosen
  size_t prompt = 0;           // how many of the tokens are the prompt's
  uint64_t sample = 0;         // which one of several of the same seed
  Drafter* drafter = nullptr;  // several tokens a forward where its drafts come true
  int64_t max_draft = 0;       // tokens of a draft
  std::optional<int64_t> logprobs = {},
                         prompt_logprobs = {};  // token_logprobs of new tokens, of the prompt's but the first: so many of the top
  // The form that the new tokens keep to, at its beginning; log-probabilities are the model's without it. An error of it is the request's.
  std::unique_ptr<TokenConstraint> constraint = {};
};

// A sequence on its way, from forward to forward:
//   propose: the request of its next forward, with drafts;
//   choose:  a token by each row that comes of it, in order of position; on any thread, none but one for a Course;
//   tell:    the tokens chosen since, each in turn;
//   settle:  when all rows are given, takes back what did not come true.
//
// Drafts are appended to the sequence and forwarded with it; from the logits behind each token the sampler chooses as it does without
// drafts, and only drafts that it chooses stay. So the output is, bit for bit, that of one token a forward, sampled output too; how it is
// distributed does not depend on the drafts. They get shorter, and rest, while they do not come true.
class Course {
 public:
  struct Chosen {
    TokenId id;
    bool end;  // it ends the text: it is not appended to the sequence
    LogitRow row;
    std::optional<TokenLogprobs> logprobs;
  };

  Course(Sampler sampler, CourseOptions options);

  bool ended() const { return ended_; }
  int64_t new_tokens() const { return options_.max_new_tokens - left_; }  // chosen so far, an end token among them
  int64_t drafted() const { return drafted_; }
  int64_t accepted() const { return accepted_; }

  // A draft may be of `most_draft` tokens. The request begins with the whole sequence if that is not cached.
  Generator::Request propose(const Generator& generator, Sequence& sequence, int64_t most_draft);
  bool is_constrained() const { return options_.constraint != nullptr; }
  int64_t drafts(const Sequence& sequence) const { return static_cast<int64_t>(sequence.tokens.size() - known_); }

  // Asks the constraint, if there is one, what may come next: enough() depends on it. choose does so otherwise; an error is the request's.
  void look(int64_t vocab);
  // How many of the largest logits of each of the request's rows are needed: LogitRows::fetch. Of a row that falls outside, all are.
  int64_t enough() const { return enough_; }
  // False: all logits of the row are needed after all, and nothing was chosen.
  bool choose(const Sequence& sequence, const LogitRow& row);

  // Calls take(const Chosen&) for each token; false: it was the last. So it is when that throws.
  template <class Take>
  void tell(const Take& take) {
    const std::vector<Chosen> chosen = std::move(chosen_);
    chosen_.clear();
    for (size_t i = 0; i < chosen.size(); ++i) {
      const size_t behind = chosen.size() - 1 - i;
      try {
        if (take(chosen[i])) continue;
      } catch (...) {
        end_before(behind, chosen.back().end);
        throw;
      }
      return end_before(behind, chosen.back().end);
    }
  }

  void settle(Cache& cache, Sequence& sequence);

  // What was proposed will not come to its end: takes the drafts back, and what was chosen and not told. What was told stays.
  void abandon(Cache& cache, Sequence& sequence);

  // The prompt's log-probabilities, as far as they have come.
  const std::vector<TokenLogprobs>& prompt_logprobs() const { return prompt_logprobs_; }

 private:
  AllowedTokens allowed() const { return constrains_.value_or(false) ? AllowedTokens(bits_) : AllowedTokens(); }
  void end_before(size_t dropped, bool end);

  Sampler sampler_;
  CourseOptions options_;
  bool ended_ = false;
  int64_t left_;                   // new tokens that may come
  int64_t length_;                 // of a draft, at most
  int64_t misses_ = 0, rest_ = 0;  // drafts in a row of which nothing came true; forwards to go without one
  int64_t drafted_ = 0, accepted_ = 0;
  size_t known_ = 0, right_ = 0;  // tokens before the drafts, and with those that came true
  int64_t enough_ = 0;
  std::optional<TokenId> next_ = {};     // chosen behind the last of these
  std::vector<Chosen> chosen_;           // and not told yet
  std::vector<int32_t> bits_;            // of the constraint for the next token
  std::optional<bool> constrains_ = {};  // whether they are to be looked at, if that was asked
  std::vector<TokenLogprobs> prompt_logprobs_;
};

// Each request's course chooses by its rows, several courses at a time on the device's threads. An error of one stands in its request.
void choose_by_rows(Device& device, LogitRows& rows, std::span<Course* const> courses, std::span<Generator::Request> requests);

}  // namespace tessera

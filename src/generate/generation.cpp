#include "generate/generation.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "generate/speculation.h"

namespace tessera {
namespace {

constexpr int64_t kFirstDraft = 4, kMissesBeforeRest = 3, kLongestRest = 8;

// A Generation on its way.
class Course {
 public:
  explicit Course(Generation& asked)
      : asked_(asked),
        tokens_(asked.sequence.tokens),
        prompt_(asked.prompt.value_or(tokens_.size())),
        left_(asked.max_new_tokens),
        length_(std::min(asked.max_draft, kFirstDraft)) {}

  bool ended() const { return ended_; }

  // A request with drafts; then each of its rows in order; then the end, which takes back what did not come true.
  Generator::Request propose(const Generator& generator) {
    known_ = right_ = tokens_.size();
    next_.reset();
    if (left_ == 0) return {&asked_.sequence, 0};
    const bool prompt_is_new = static_cast<int64_t>(known_) - asked_.sequence.length() > 1;  // its first token is not to wait for a draft
    // A windowed cache goes back by rewind_tokens at most without computing anew.
    const int64_t count = std::min({length_, left_ - 1, generator.room_behind(known_), generator.cache().options().rewind_tokens});
    if (rest_ > 0) {
      --rest_;
    } else if (asked_.drafter && count > 0 && !prompt_is_new) {
      const std::vector<TokenId> draft = asked_.drafter->draft(tokens_, prompt_, count);
      tokens_.insert(tokens_.end(), draft.begin(), draft.end());
    }
    return {&asked_.sequence, static_cast<int64_t>(tokens_.size() - known_) + 1};
  }

  void verify(const Generator::Row& row) {
    if (ended_ || next_) return;
    const TokenId id = choose(row);
    const bool foreseen = right_ < tokens_.size() && tokens_[right_] == id;
    ended_ = asked_.sampler.ends(id);
    if (!ended_ && foreseen) ++right_;
    if (!ended_ && !foreseen) next_ = id;
    --left_;
    if (asked_.goes_on && !asked_.goes_on({id, ended_, row})) ended_ = true;
  }

  void settle(Cache& cache) {
    const auto drafted = static_cast<int64_t>(tokens_.size() - known_), accepted = static_cast<int64_t>(right_ - known_);
    cache.truncate(asked_.sequence, static_cast<int64_t>(right_));
    if (next_) tokens_.push_back(*next_);
    ended_ = ended_ || left_ == 0;
    if (drafted == 0) return;
    asked_.drafted += drafted;
    asked_.accepted += accepted;
    length_ = accepted == drafted ? std::min(asked_.max_draft, 2 * length_) : std::max<int64_t>(1, drafted / 2);
    misses_ = accepted == 0 ? misses_ + 1 : 0;
    rest_ = std::clamp<int64_t>(misses_ - kMissesBeforeRest, 0, kLongestRest);
  }

 private:
  // Of the logits the device gives only as many as the sampler needs; behind drafts all, of whose rows a card would choose by a program
  // for each number of them.
  TokenId choose(const Generator::Row& row) {
    const auto tokens = std::span<const TokenId>(tokens_).first(right_);
    const int64_t enough = tokens_.size() == known_ ? asked_.sampler.enough(right_ - prompt_) : 0;
    if (enough == 1) return row.argmax();
    if (enough > 1 && enough <= row.vocab())
      if (const auto token = asked_.sampler.sample(row.topk(enough), right_, asked_.sample)) return *token;
    return asked_.sampler.sample(row, tokens, prompt_, asked_.sample);
  }

  Generation& asked_;
  std::vector<TokenId>& tokens_;
  size_t prompt_;
  bool ended_ = false;
  int64_t left_;                      // new tokens that may come
  int64_t length_;                    // of a draft, at most
  int64_t misses_ = 0, rest_ = 0;     // drafts in a row of which nothing came true; forwards to go without one
  size_t known_ = 0, right_ = 0;      // tokens before the drafts, and with those that came true
  std::optional<TokenId> next_ = {};  // chosen behind the last of these
};

}  // namespace

void generate(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress) {
  std::vector<Course> courses(generations.begin(), generations.end());
  for (;;) {
    std::vector<Course*> going;
    for (Course& course : courses)
      if (!course.ended()) going.push_back(&course);
    if (going.empty()) return;
    std::vector<Generator::Request> requests;
    requests.reserve(going.size());
    std::exception_ptr error;
    try {
      for (Course* const course : going) requests.push_back(course->propose(generator));
      generator.forward(requests, [&](size_t i, int64_t, const Generator::Row& row) { going[i]->verify(row); }, progress);
    } catch (...) {
      error = std::current_exception();
    }
    for (size_t i = 0; i < requests.size(); ++i) going[i]->settle(generator.cache());
    for (const Generator::Request& request : requests)
      if (!error) error = request.error;
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace tessera

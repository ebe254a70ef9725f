#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "generate/generator.h"
#include "generate/sampler.h"

namespace tessera {

// Guesses how a text goes on. A wrong guess costs time, never a token.
class Drafter {
 public:
  virtual ~Drafter() = default;

  // At most `count` (at least 1) tokens that may follow `tokens`, of which the first `prompt` are the prompt's.
  virtual std::vector<TokenId> draft(std::span<const TokenId> tokens, size_t prompt, int64_t count) = 0;
};

// Gives what followed when the last tokens stood in the text before: as many of them as are found together, and where they stood last.
class PromptLookup final : public Drafter {
 public:
  std::vector<TokenId> draft(std::span<const TokenId> tokens, size_t prompt, int64_t count) override;
};

// A smaller model that knows the same tokens, with a sequence of its own in its generator's cache. Its draws are those of the sampler that
// it guesses for: where the two models agree, so do their choices.
class DraftModel final : public Drafter {
 public:
  // `sampler` is as that of the model of `vocab_size` that is helped. Throws ResourceError when the cache has no room for a sequence.
  DraftModel(Generator& generator, Sampler sampler, int64_t vocab_size);

  std::vector<TokenId> draft(std::span<const TokenId> tokens, size_t prompt, int64_t count) override;

 private:
  Generator& generator_;
  Sampler sampler_;
  size_t vocab_size_;
  std::unique_ptr<Sequence> sequence_;
};

// Continues one sequence, by several tokens a forward where drafts come true. Drafts are appended to the sequence and forwarded with it;
// from the logits behind each token the sampler chooses as it does without drafts, and only drafts that it chooses stay. So the output is,
// bit for bit, that of one token a forward, sampled output too; how it is distributed does not depend on the drafts.
class Speculation {
 public:
  // Drafts are of at most `most` tokens, and of fewer while they do not come true; none without a drafter. What is referred to must outlive
  // this. `prompt`: how many of the sequence's tokens are the prompt's.
  Speculation(Sequence& sequence, Sampler& sampler, size_t prompt, Drafter* drafter, int64_t most);

  // Appends the tokens that come next, at least one and at most `room`, and gives them. Throws what stops the forward, with the sequence as
  // it was or longer by tokens that are right.
  std::span<const TokenId> advance(Generator& generator, int64_t room);

  // The same in three parts, so that sequences can share a forward: a request with drafts, each of its rows in order, and the end, which
  // takes back what did not come true.
  Generator::Request propose(const Generator& generator, int64_t room);
  void verify(std::span<const float> logits);
  std::span<const TokenId> settle(Cache& cache);

  int64_t drafted() const { return drafted_; }    // tokens so far
  int64_t accepted() const { return accepted_; }  // of these

 private:
  void adapt(int64_t drafted, int64_t accepted);

  Sequence& sequence_;
  Sampler& sampler_;
  size_t prompt_;
  Drafter* drafter_;
  int64_t most_, length_;          // of a draft: at most, and now
  int64_t misses_ = 0, rest_ = 0;  // drafts in a row of which nothing came true; forwards to go without one
  size_t known_ = 0, right_ = 0;   // tokens of the sequence before its drafts, and with those that came true
  std::optional<TokenId> next_;    // chosen behind the last of these
  int64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace tessera

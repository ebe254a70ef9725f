#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generate/generation.h"

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
  int64_t vocab_size_;
  std::unique_ptr<Sequence> sequence_;
};

}  // namespace tessera

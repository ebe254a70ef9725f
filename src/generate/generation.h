#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "generate/generator.h"
#include "generate/sampler.h"

namespace tessera {

class Drafter;

// A token that has just been chosen, from the logits of `row`.
struct NewToken {
  TokenId id;
  bool end;  // it ends the text: it is not appended to the sequence
  const Generator::Row& row;
};

struct GenerationOptions {
  int64_t max_new_tokens = 0;                         // 0: the tokens are computed, and none is chosen
  std::optional<size_t> prompt = {};                  // how many of the tokens are the prompt's; all, if not given
  uint64_t sample = 0;                                // which one of several of the same seed
  Drafter* drafter = nullptr;                         // several tokens a forward where its drafts come true
  int64_t max_draft = 0;                              // tokens of a draft
  std::function<bool(const NewToken&)> goes_on = {};  // called with each token in turn, the end token too; false: it was the last
};

// How one sequence goes on: to an end token of the sampler's, to the last token that `goes_on` wants, or to max_new_tokens.
//
// Drafts are appended to the sequence and forwarded with it; from the logits behind each token the sampler chooses as it does without
// drafts, and only drafts that it chooses stay. So the output is, bit for bit, that of one token a forward, sampled output too; how it is
// distributed does not depend on the drafts. They get shorter, and rest, while they do not come true.
class Generation {
 public:
  // What is referred to must outlive this.
  Generation(Sequence& sequence, Sampler& sampler, GenerationOptions options);

  int64_t new_tokens() const { return new_tokens_; }  // chosen so far, an end token too
  int64_t drafted() const { return drafted_; }        // tokens so far
  int64_t accepted() const { return accepted_; }      // of these

 private:
  friend bool advance(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress);
  Generator::Request propose(const Generator& generator);
  void verify(const Generator::Row& row);
  void settle(Cache& cache);
  TokenId choose(const Generator::Row& row);
  void adapt(int64_t drafted, int64_t accepted);

  Sequence& sequence_;
  Sampler& sampler_;
  GenerationOptions options_;
  size_t prompt_;
  bool going_ = true;
  int64_t new_tokens_ = 0;
  int64_t length_;                    // of a draft, at most
  int64_t misses_ = 0, rest_ = 0;     // drafts in a row of which nothing came true; forwards to go without one
  size_t known_ = 0, right_ = 0;      // tokens of the sequence before its drafts, and with those that came true
  std::optional<TokenId> next_ = {};  // chosen behind the last of these
  int64_t drafted_ = 0, accepted_ = 0;
};

// The token loop: goes on until all have ended, side by side. Throws what stopped one of them, or what its `goes_on` threw; each sequence
// then has the tokens that were chosen, and no drafts.
void generate(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress = {});
inline void generate(Generator& generator, Generation& generation, const Generator::Progress& progress = {}) {
  generate(generator, std::span(&generation, 1), progress);
}

// One forward of it; false when all have ended already.
bool advance(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress = {});

}  // namespace tessera

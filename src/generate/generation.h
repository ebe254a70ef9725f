#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "generate/course.h"

namespace tessera {

using NewToken = Course::Chosen;

// How one sequence goes on: to an end token of the sampler's, to the last token that `goes_on` wants, or to max_new_tokens.
struct Generation {
  Sequence& sequence;
  const Sampler& sampler;
  int64_t max_new_tokens;                             // 0: the tokens are computed, and none is chosen
  std::optional<size_t> prompt = {};                  // how many of the tokens are the prompt's; all, if not given
  uint64_t sample = 0;                                // which one of several of the same seed
  Drafter* drafter = nullptr;                         // several tokens a forward where its drafts come true
  int64_t max_draft = 0;                              // tokens of a draft
  const TokenConstraint* constraint = nullptr;        // the form that the new tokens keep to, at its beginning: a fork of it is used
  std::function<bool(const NewToken&)> goes_on = {};  // called with each token in turn, the end token too; false: it was the last

  int64_t drafted = 0, accepted = 0;  // tokens of drafts, and of these in the output: counted by generate
};

// The token loop: sequences go on side by side until all have ended. Throws what stopped one of them, or what its `goes_on` threw; each
// then has the tokens that were chosen, and no drafts.
void generate(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress = {});

}  // namespace tessera

#pragma once
// A saved reference: what a model chose after a prompt, and how sure it was. docs/evaluation.md describes the file.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/output_file.h"
#include "evaluate/measures.h"
#include "generate/generator.h"

namespace tessera {

struct Reference {
  std::string made_by;                       // for people
  std::vector<TokenId> prompt;               // at least one
  std::vector<TokenId> tokens;               // chosen one after the other behind the prompt
  std::vector<TokenId> forced;               // of a given text: its tokens, fed in one forward in place of the choices; else empty
  std::vector<std::array<TokenId, 5>> top5;  // of each of `tokens`: the five most probable then, the most probable first
  // Of each, the most probable tokens and the logarithms of their probabilities, the most probable first; both empty when not kept.
  std::vector<std::vector<TokenId>> top_ids;
  std::vector<std::vector<double>> top_log_probs;

  // What follows the prompt when it is fed.
  const std::vector<TokenId>& fed() const { return forced.empty() ? tokens : forced; }
  // One more of `tokens`, and of the logits that chose it the `top` most probable tokens (0: only their five ids).
  void append(TokenId token, std::span<const float> logits, size_t top);
};

// Throws FileError naming the field and place: not this format, ids outside [0, vocab_size), lists that do not fit each other.
Reference read_reference(const std::string& path, int64_t vocab_size);
void write_reference(OutputFile& file, const Reference& reference);  // and finishes it

// `count` greedy choices behind `prompt`; fewer when one of `ends` comes, which is kept. Keeps the `top` most probable tokens of each
// (0: only their five ids).
Reference make_reference(Generator& generator, std::vector<TokenId> prompt, int64_t count, std::span<const TokenId> ends, size_t top,
                         const Generator::Progress& progress = {});

struct ReferenceScore {
  int64_t total = 0;
  int64_t top1 = 0;            // the reference's token is our best
  int64_t top5 = 0;            // it is among our five best
  int64_t choice_in_top5 = 0;  // our best is among the reference's five
  int64_t distinct = 0;        // different ids among the reference's tokens
  int64_t ties = 0;            // the reference's best two were less than kTie apart; known from log-probabilities only
  int64_t ties_missed = 0;     // of these, places where our best is another
  Mean loss;                   // of the fed tokens
  Mean kl;                     // KL(reference || ours), the kept tokens apart and all others as one; count 0 when none are kept
};
inline constexpr double kTie = 1e-3;

struct JudgedRow {
  double loss, kl;  // kl is 0 when no log-probabilities are kept
  bool top1, top5, choice_in_top5;
};
// Judges the logits that choose what follows the prompt and the first i fed tokens.
JudgedRow judge_row(const Reference& reference, size_t i, std::span<const float> logits);
// Of all of the reference's places, in their order.
ReferenceScore sum_up(const Reference& reference, std::span<const JudgedRow> judged);

// Feeds what the reference was fed and judges our choice at each place.
ReferenceScore score_reference(Generator& generator, const Reference& reference, int threads, const Generator::Progress& progress = {});

}  // namespace tessera

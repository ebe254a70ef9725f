#pragma once
// transformers' logits processors (generation/logits_process.py, version 5.23), in float32 as there. `scores` are one row of logits, which
// they change; `tokens` the text so far. Tokens without a logit do not count.
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/processor_params.h"
#include "core/types.h"

namespace tessera {

using Scores = std::span<float>;
using Tokens = std::span<const TokenId>;

void sequence_bias(Scores scores, Tokens tokens, const std::vector<std::pair<std::vector<TokenId>, double>>& biases);
void repetition_penalty(Scores scores, Tokens tokens, double penalty);
// Subtracts `presence` and, for each time that a token stands in `output`, `frequency`; OpenAI's, not transformers'.
void presence_and_frequency_penalty(Scores scores, Tokens output, double presence, double frequency);
// Tokens that would complete so many tokens in a row that are in `text`.
void no_repeat_ngram(Scores scores, Tokens text, Tokens tokens, int64_t size);
void forced_tokens(Scores scores, Tokens forced);
void remove_invalid_values(Scores scores);
// `ends`: each once. `past`: new tokens behind the start, at least 1.
void exponential_decay_length_penalty(Scores scores, Tokens ends, double factor, int64_t past);
void suppress_tokens(Scores scores, Tokens suppressed);
void logit_normalization(Scores scores);  // log-softmax

struct TokenProbability {
  TokenId token;
  double probability;
};

// What is left to draw from: the most probable first, equal ones in order of their ids; probabilities above 0 that sum to 1. Each of these
// leaves at least one, and the sum at 1.
using Candidates = std::vector<TokenProbability>;

inline constexpr int64_t kTopHWidth = 100;  // top_h looks at no more

void normalize(Candidates& candidates);
void top_h(Candidates& candidates, double top_h);
void top_k(Candidates& candidates, int64_t k);  // and those equal to the k-th
void top_p(Candidates& candidates, double p);
void min_p(Candidates& candidates, double p);
void typical_p(Candidates& candidates, double mass);
void epsilon_cutoff(Candidates& candidates, double epsilon);
void eta_cutoff(Candidates& candidates, double epsilon);

}  // namespace tessera

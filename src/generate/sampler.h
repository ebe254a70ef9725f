#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/processor_params.h"
#include "core/types.h"
#include "generate/allowed_tokens.h"
#include "generate/logits_processors.h"
#include "generate/score_order.h"
#include "ops/selection.h"

namespace tessera {

// How the next token is chosen. Applied in the order of transformers' generate(): biases, penalties, min_new_tokens, what is forced or
// suppressed; then, unless greedy, temperature, top_h, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff.
struct SamplingParams {
  double temperature = 1.0;         // 0: greedy, the first of the largest logits
  int64_t top_k = 0;                // 0: all; ties with the k-th value are kept
  double top_p = 1.0;               // (0, 1]
  double min_p = 0.0;               // [0, 1]
  double repetition_penalty = 1.0;  // > 0; of tokens in prompt or output: logit < 0 times it, else divided by it
  double presence_penalty = 0.0;    // [-2, 2]; subtracted once for a token in the output
  double frequency_penalty = 0.0;   // [-2, 2]; subtracted for each time that it stands there
  std::unordered_map<TokenId, double> logit_bias;
  int64_t min_new_tokens = 0;  // no end token before so many
  bool ignore_eos = false;     // no end token at all
  uint64_t seed = 0;
  ProcessorParams processors = {};
};

// Throws std::invalid_argument naming the field, its value and its limits.
void check_sampling(const SamplingParams& params, int64_t vocab_size);

class Sampler {
 public:
  Sampler(const SamplingParams& params, std::vector<TokenId> end_tokens);

  // The last token of a text of so many, the prompt's among them, is one of forced_eos_token_id; not set: a text without an end.
  void set_max_length(int64_t max_length) { max_length_ = max_length; }

  // Whether this token ends a text.
  bool ends(TokenId token) const;

  // The token after `tokens`, of which the first `prompt` are the prompt's. The draw depends on (seed, sample, tokens.size()) alone. Biases
  // and end tokens that have no logit do not count. `allowed`: all other tokens have a logit of -infinity.
  // Throws std::runtime_error when a logit is NaN or +infinity, unless remove_invalid_values, or all are -infinity.
  TokenId sample(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, uint64_t sample = 0,
                 AllowedTokens allowed = {});

  // The candidates that the draw is made from and their probabilities, which sum to 1, the most probable first.
  Candidates candidates(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, AllowedTokens allowed = {});

  // How many of the largest logits most often choose the same token as all do: 1, for greedy, always does; 0: all are needed, for top_k of
  // 0 or above 255, fewer tokens that are allowed, a bias, a penalty, and what looks at more; -1: none, a token is forced.
  // `new_tokens`: how many there are.
  int64_t enough(size_t new_tokens, AllowedTokens allowed = {}) const;

  // The one that may come, whatever the logits are.
  std::optional<TokenId> forced(size_t new_tokens, AllowedTokens allowed) const;

  // The same choice by a row's largest logits, at least enough() > 1, behind so many tokens; nullopt when tokens that are not among them
  // may count: behind a tie, or where too few of these are allowed.
  std::optional<TokenId> sample(const TopK& largest, size_t tokens, size_t prompt, uint64_t sample = 0, AllowedTokens allowed = {}) const;

  const SamplingParams& params() const { return params_; }

 private:
  std::span<const float> process(std::span<const float> logits, std::span<const TokenId> tokens, size_t prompt, AllowedTokens allowed);
  bool bars_ends(size_t new_tokens) const;
  bool is_end(TokenId token) const;
  Candidates few(std::span<const float> logits, AllowedTokens allowed, bool barred) const;
  TokenId choose(Candidates found, size_t tokens, uint64_t sample) const;
  bool takes_all(size_t vocab) const;
  Candidates weigh(Candidates scores, float top) const;
  Candidates filter(Candidates scores, float top) const;
  Candidates filter_late(Candidates kept) const;
  std::optional<ScoreOrder::Place> last_kept(const ScoreOrder& order) const;
  TokenId draw(const Candidates& candidates, size_t tokens, uint64_t sample) const;

  SamplingParams params_;
  std::vector<TokenId> end_tokens_;
  std::vector<std::pair<std::vector<TokenId>, double>> biases_, bad_words_;
  bool processes_;  // what can only be done to all logits
  std::optional<int64_t> max_length_;
  std::vector<float> scores_;
};

}  // namespace tessera

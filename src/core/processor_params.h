#pragma once
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/types.h"

namespace tessera {

// What generation_config.json can ask of the logits beside the usual: fields of transformers' GenerationConfig, under its names. The values
// here change nothing.
struct ProcessorParams {
  std::vector<std::pair<std::vector<TokenId>, double>> sequence_bias;  // added to the last token where the others were just written
  double encoder_repetition_penalty = 1.0;          // > 0; of tokens in the prompt: logit < 0 divided by it, else times it
  int64_t no_repeat_ngram_size = 0;                 // so many tokens come once in prompt and output; 0: off
  int64_t encoder_no_repeat_ngram_size = 0;         // those of the prompt do not come again
  std::vector<std::vector<TokenId>> bad_words_ids;  // never come; a lone end token may
  int64_t min_length = 0;                           // no end token before so many tokens, the prompt's among them
  std::optional<TokenId> forced_bos_token_id;       // comes after a prompt of one token
  std::vector<TokenId> forced_eos_token_id;         // one of them is the last token that may come
  bool remove_invalid_values = false;               // logits that are no numbers are 0, infinite ones the largest
  std::optional<std::pair<int64_t, double>> exponential_decay_length_penalty;  // an end's logit grows by this factor after so many tokens
  std::vector<TokenId> suppress_tokens, begin_suppress_tokens;                 // never come; do not come first
  std::optional<double> top_h;                                                 // (0, 1]: this part of the entropy of the 100 most probable
  double typical_p = 1.0;                                                      // (0, 1]; 1: off
  double epsilon_cutoff = 0.0, eta_cutoff = 0.0;                               // [0, 1); 0: off
  bool renormalize_logits = false;

  bool operator==(const ProcessorParams&) const = default;
};

}  // namespace tessera

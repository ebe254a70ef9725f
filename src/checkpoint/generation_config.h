#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "core/processor_params.h"
#include "core/special_tokens.h"
#include "core/types.h"

namespace tessera {

// How a checkpoint wants to be sampled. Unset fields have transformers' defaults (GenerationMixin's, version 5.23), but for its 20 new
// tokens.
struct GenerationConfig {
  SpecialTokens tokens;
  bool do_sample = false;
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 50;        // 0: all
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  int64_t min_new_tokens = 0;
  ProcessorParams processors;
  std::optional<int64_t> max_new_tokens;  // before max_length
  std::optional<int64_t> max_length;      // the prompt's tokens count
  std::optional<double> max_time;         // seconds, after which no other token comes
  std::vector<std::string> stop_strings;  // may begin in the prompt, and in special tokens

  std::vector<std::string> unsupported;  // fields that would change what is generated: "FILE: num_beams is 4: why not"
  std::vector<std::string> notes;        // odd but harmless: for the user to see

  // Behind `known` tokens, by max_new_tokens or max_length; 0: max_length is reached; nullopt: as many as there is room for.
  std::optional<int64_t> most_new_tokens(int64_t known) const;
};

// Those of generation_config.json (`file`); what it doesn't name comes from `config` (config.json), then from its text_config, then from
// `defaults`. Ids outside [0, vocab_size) can never come and are left out, end tokens with a note. Throws FileError.
SpecialTokens read_special_tokens(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults, int64_t vocab_size,
                                  std::vector<std::string>* notes = nullptr);

// Reads generation_config.json (`file`), the special tokens as above. A null counts as unset. What generate() does not look at without
// beams or an assistant is left alone; what it does not know is noted. Throws FileError naming the field: a value out of its range,
// another id outside [0, vocab_size).
GenerationConfig read_generation_config(const ConfigReader& file, const ConfigReader& config, const SpecialTokens& defaults,
                                        int64_t vocab_size);

}  // namespace tessera

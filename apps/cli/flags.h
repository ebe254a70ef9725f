#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/running_model.h"
#include "engine/sampling_options.h"
#include "evaluate/scoring.h"

namespace CLI {
class App;
class Option_group;
}  // namespace CLI

namespace tessera {

class Session;

// The flags by which every command names a model, its precision and its place.
using ModelFlags = LoadOptions;

void add_model_flags(CLI::App& command, ModelFlags& flags);

// The cache and the Batches of a command that computes many requests at once.
struct CacheFlags {
  int64_t max_num_seqs = 0;            // 0: RunningModel::kMaxNumSeqs, or as many as there is room for
  double gigabytes = 0;                // 0: what all sequences can fill, or what memory holds
  int64_t max_num_batched_tokens = 0;  // 0: adapted
  bool no_prefix_cache = false;
};

void add_cache_flags(CLI::App& command, CacheFlags& flags);

// -m and --revision alone.
void add_checkpoint_flags(CLI::App& command, std::string& model, std::optional<std::string>& revision);
// PREFIXweightsSUFFIX, PREFIXactivationsSUFFIX and PREFIXcacheSUFFIX; "--" and "" are the model's own, a suffix is of another side.
void add_precision_flags(CLI::App& command, const std::string& prefix, const std::string& suffix, Precision& precision);

// A text for a model, given in one of three ways.
struct PromptFlags {
  std::optional<std::string> text, file, ids_file;

  bool given() const { return text || file || ids_file; }
};

// The flags form a group; its caller says how many of them are needed.
CLI::Option_group& add_prompt_flags(CLI::App& command, PromptFlags& flags);

// Token ids of a file, at least one: a JSON list, or with blanks between them.
std::vector<TokenId> read_ids(const std::string& path, int64_t vocab_size);

// The text that was given as such or in a file, which is UTF-8.
std::string prompt_text(const PromptFlags& flags);

// The ids of what was given, at least one. A text is encoded raw: with the tokenizer's own special tokens around it and those in it parsed.
std::vector<TokenId> prompt_ids(const PromptFlags& flags, Session& session);

// How many new tokens there are at most; -1, or nullopt if not given: to the context's end.
void add_new_tokens_flag(CLI::App& command, std::optional<int64_t>& new_tokens, int64_t least, const std::string& help);

// How a text is cut when it is longer than one forward should see.
struct WindowFlags {
  int64_t window = 0;  // 0: the context
  int64_t stride = 0;  // 0: half of the window
};
void add_window_flags(CLI::App& command, WindowFlags& flags);

// The text in one window if it fits, else in windows that begin with the text's begin token if it has one.
ScoredText scored_text(std::vector<TokenId> ids, const WindowFlags& flags, const Session& session);

// The flags that choose the next token; what is not given comes from the checkpoint's generation_config.json.
struct SamplingFlags : SamplingOptions {
  std::vector<std::string> bias_texts;  // "ID+BIAS", "ID-BIAS"
};

// `generation_config` is the ModelFlags'.
void add_sampling_flags(CLI::App& command, SamplingFlags& flags, std::optional<std::string>& generation_config);

// These with their biases; throws for a text of a bias that is none.
SamplingOptions sampling_options(const SamplingFlags& flags);
// sampling_params of these.
SamplingParams sampling_params(const SamplingFlags& flags, const GenerationConfig& config, int64_t vocab_size);

// What guesses the tokens that come next, so that one forward can give several.
struct SpeculationFlags {
  int64_t prompt_lookup = 0;         // tokens of a draft at most; 0: no prompt lookup
  std::optional<std::string> draft;  // a smaller model
  int64_t draft_max = 16;            // tokens of its drafts at most
  Precision draft_precision;
};

void add_speculation_flags(CLI::App& command, SpeculationFlags& flags);

}  // namespace tessera

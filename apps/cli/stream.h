#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/session.h"
#include "generate/token_constraint.h"

namespace tessera {

struct StreamOptions {
  std::optional<int64_t> new_tokens;                  // at most; nullopt: as the generation config says, else to the context's end
  std::vector<std::string> stop;                      // none: the generation config's
  bool print_ids = false;                             // ids instead of text
  std::optional<std::string> logits_file;             // the logits of all rows of the prompt, .npy
  std::shared_ptr<const TokenConstraint> constraint;  // the form that the new tokens keep to
};

// What one answer took, and its text as shown.
struct StreamResult {
  std::string text;
  size_t prompt_tokens = 0;  // computed, not found in the cache
  int64_t new_tokens = 0;
  int64_t drafted = 0, accepted = 0;  // tokens of drafts, and of these in the answer
  double prefill_seconds = 0, first_token_seconds = 0, decode_seconds = 0;
  bool interrupted = false;
  bool cut = false;  // by the context's end
};

// Computes the tokens of `sequence` that are not cached yet and shows the tokens that follow on standard output as they come, to an end
// token, a stop string or a limit, of which those not given are the session's generation config's. End tokens are not shown (their ids are)
// and not kept. The new tokens are appended to `sequence`. All its tokens so far count as the prompt's for penalties. When SIGINT or
// SIGTERM arrives, the answer ends: `interrupted`.
StreamResult stream(Session& session, Sequence& sequence, Sampler& sampler, const Drafting& drafting, const StreamOptions& options);

// How a context that is full can be longer: ", or ...", empty where the model's own is as long.
std::string longer_context(const Session& session);

// One line on standard error: load, time to first token, prefill and decode tokens/s, drafts, the seed.
void print_timing(const Session& session, const StreamResult& result, const SamplingParams& params);

}  // namespace tessera

#pragma once
#include <memory>
#include <optional>
#include <string>

#include "cli/session.h"
#include "generate/speculation.h"

namespace tessera {

// What guesses the tokens that come next, so that one forward can give several.
struct SpeculationFlags {
  int64_t prompt_lookup = 0;         // tokens of a draft at most; 0: no prompt lookup
  std::optional<std::string> draft;  // a smaller model
  int64_t draft_max = 16;            // tokens of its drafts at most
  Precision draft_precision;
};

void add_speculation_flags(CLI::App& command, SpeculationFlags& flags);

// A drafter with what it needs around it. It goes before the session that it drafts for.
struct Drafting {
  std::unique_ptr<Session> session = nullptr;  // the draft model's, on the device of the model that it drafts for
  std::unique_ptr<Drafter> drafter = nullptr;  // none was asked for: null
  int64_t most = 0;
};

// Throws std::invalid_argument when the draft model has other tokens than the session's.
Drafting open_drafting(const SpeculationFlags& flags, const ModelFlags& model, Session& session, const Sampler& sampler);

}  // namespace tessera

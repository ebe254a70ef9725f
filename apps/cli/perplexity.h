#pragma once
#include <optional>
#include <string>
#include <vector>

#include "cli/prompt.h"
#include "cli/session.h"
#include "evaluate/scoring.h"

namespace tessera {

// How a text is cut when it is longer than one forward should see.
struct WindowFlags {
  int64_t window = 0;  // 0: the context
  int64_t stride = 0;  // 0: half of the window
};
void add_window_flags(CLI::App& command, WindowFlags& flags);

// The text in one window if it fits, else in windows that begin with the text's begin token if it has one.
ScoredText scored_text(std::vector<TokenId> ids, const WindowFlags& flags, const Session& session);

// `tessera perplexity`: how well a model foretells a text.
struct PerplexityOptions {
  ModelFlags model;
  PromptFlags text;
  WindowFlags windows;
  std::optional<std::string> json;
};

void add_perplexity(CLI::App& app, PerplexityOptions& options);
int perplexity(const PerplexityOptions& options);

}  // namespace tessera

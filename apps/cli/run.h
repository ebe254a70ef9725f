#pragma once
#include <optional>
#include <string>

#include "cli/stream.h"

namespace tessera {

// `tessera run`: one prompt, raw or as one turn of a chat, streamed.
struct RunOptions {
  ModelFlags model;
  SamplingFlags sampling;
  SpeculationFlags speculation;
  StreamOptions stream;
  PromptFlags prompt;
  std::optional<std::string> system, chat_template;
  bool chat = false;
};

void add_run(CLI::App& app, RunOptions& options);
int run(const RunOptions& options);

}  // namespace tessera

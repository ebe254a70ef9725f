#pragma once
#include <optional>
#include <string>

#include "cli/stream.h"

namespace tessera {

// `tessera chat`: a conversation on the terminal. The cache is kept between turns: only what is new is computed.
struct ChatOptions {
  ModelFlags model;
  SamplingFlags sampling;
  SpeculationFlags speculation;
  StreamOptions stream;
  std::optional<std::string> system, chat_template;
};

void add_chat(CLI::App& app, ChatOptions& options);
int chat(const ChatOptions& options);

}  // namespace tessera

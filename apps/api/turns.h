#pragma once
#include <string>
#include <vector>

#include "api/chat_completions.h"

namespace tessera::api {

// Behind what there is, on a line of its own.
void add_lines(std::optional<std::string>& all, const std::string& more);

// Appends a message, or goes on with the last where the same speaks: the APIs that are translated divide a turn into items, and chat
// templates want turns. A developer's is the system's. Each result of a tool is its own.
void add_turn(std::vector<ChatMessage>& messages, ChatMessage message);

}  // namespace tessera::api

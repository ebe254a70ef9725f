#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/conversation.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tessera {

// The flags of a chat.
struct ChatFlags {
  std::optional<std::string> system, template_file;
  std::vector<std::string> arguments;  // "name=value"
};

// `chat`: the option that all of them need, or null.
void add_chat_flags(CLI::App& command, ChatFlags& flags, CLI::Option* chat);

// What they say. Throws FileError for a file that cannot be read, std::invalid_argument for the rest.
ConversationOptions conversation_options(const ChatFlags& flags);

}  // namespace tessera

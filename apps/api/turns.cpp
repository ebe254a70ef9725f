#include "api/turns.h"

#include <iterator>
#include <utility>

namespace tessera::api {
namespace {

std::string_view speaker(const ChatMessage& message) { return message.role == "developer" ? "system" : std::string_view(message.role); }

}  // namespace

void add_lines(std::optional<std::string>& all, const std::string& more) {
  if (!all || all->empty()) {
    all = more;
  } else if (!more.empty()) {
    all->append("\n").append(more);
  }
}

void add_turn(std::vector<ChatMessage>& messages, ChatMessage message) {
  if (messages.empty() || message.role == "tool" || speaker(messages.back()) != speaker(message)) {
    messages.push_back(std::move(message));
    return;
  }
  ChatMessage& last = messages.back();
  if (message.content) add_lines(last.content, *message.content);
  if (message.reasoning) add_lines(last.reasoning, *message.reasoning);
  last.tool_calls.insert(last.tool_calls.end(), std::make_move_iterator(message.tool_calls.begin()),
                         std::make_move_iterator(message.tool_calls.end()));
}

}  // namespace tessera::api

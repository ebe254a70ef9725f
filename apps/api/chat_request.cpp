#include "api/chat_request.h"

#include <utility>

namespace tessera::api {
namespace {

jinja::Value person(std::string_view text) { return jinja::Value::text(text, jinja::Origin::person); }

jinja::Value message_value(const ChatMessage& message) {
  std::vector<std::pair<jinja::Value, jinja::Value>> fields{{person("role"), person(message.role)},
                                                            {person("content"), person(message.content.value_or(""))}};
  if (message.name) fields.emplace_back(person("name"), person(*message.name));
  if (message.reasoning) fields.emplace_back(person("reasoning_content"), person(*message.reasoning));
  return jinja::Value::dict(std::move(fields), true);
}

}  // namespace

ChatRequest chat_request(const ChatCompletionFields& fields) {
  std::vector<jinja::Value> messages;
  for (const ChatMessage& message : fields.messages) messages.push_back(message_value(message));
  return {.messages = jinja::Value::list(std::move(messages), true), .arguments = fields.arguments};
}

}  // namespace tessera::api

#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/session.h"
#include "text/chat_template.h"

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

// A conversation in a model's template: what was said, and its ids.
class Conversation {
 public:
  struct Message {
    std::string role, content;  // UTF-8
    std::vector<TokenId> ids;   // an answer's, as they were generated; none: the content's own
  };

  // Begins with the flags' system message. Throws FileError, saying what to do, where there is no template.
  Conversation(const ChatFlags& flags, const Checkpoint& checkpoint, const Tokenizer& tokenizer);

  void reset();
  void add(std::string role, std::string content) { messages_.push_back({std::move(role), std::move(content), {}}); }
  // `ids` are what the model generated; `content` is what was shown of them.
  void add_answer(std::string content, std::vector<TokenId> ids);
  void remove_last() { messages_.pop_back(); }
  const std::vector<Message>& messages() const { return messages_; }

  // The whole conversation and what begins an answer. Answers keep their ids where the template leaves them as they are.
  std::vector<TokenId> ids() const;

  // The conversation as text, and one that was saved so: of `source`, a file. Throws std::invalid_argument, saying what differs, where its
  // ids would mean other tokens here, or its template, the template's arguments or the system message are not these; FileError where it is
  // no such text.
  std::string saved() const;
  void restore(std::string_view saved, const std::string& source);

  // Each ends an answer: the session's own end tokens, config.json's and tokenizer_config.json's, and how the template ends a turn.
  std::vector<TokenId> end_tokens(const Session& session) const;

 private:
  const Checkpoint& checkpoint_;
  const Tokenizer& tokenizer_;
  const std::vector<std::string> given_arguments_;
  ChatArguments arguments_;
  ChatFiles files_;
  ChatTemplate template_;
  std::vector<bool> control_tokens_;
  std::optional<std::string> system_;
  std::vector<Message> messages_;
};

}  // namespace tessera

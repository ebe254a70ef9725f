#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/running_model.h"
#include "text/chat_template.h"

namespace tessera {

struct ConversationOptions {
  std::optional<std::string> system = {};                 // begins each conversation; UTF-8
  std::optional<ChatFiles::Template> chat_template = {};  // in place of the checkpoint's
  ChatArguments arguments = {};                           // variables of the template
  std::vector<std::string> given_arguments = {};          // as they were given: a saved conversation goes on with the same
  std::string template_option = "chat_template";          // how another template is given, in an error's text
};

// A conversation in a model's template: what was said, and its ids.
class Conversation {
 public:
  struct Message {
    std::string role, content;  // UTF-8
    std::vector<TokenId> ids;   // an answer's, as they were generated; none: the content's own
  };

  // Both must outlive this. Throws FileError, saying what to do, where there is no template.
  Conversation(const Checkpoint& checkpoint, const Tokenizer& tokenizer, ConversationOptions options);

  void reset();
  void add(std::string role, std::string content) { messages_.push_back({std::move(role), std::move(content), {}}); }
  // `ids` are what the model generated; `content` is what was shown of them.
  Message answer(std::string content, std::vector<TokenId> ids) const;
  void add_answer(std::string content, std::vector<TokenId> ids) { messages_.push_back(answer(std::move(content), std::move(ids))); }
  void remove_last() { messages_.pop_back(); }
  const std::vector<Message>& messages() const { return messages_; }

  // The whole conversation and what begins an answer. Answers keep their ids where the template leaves them as they are.
  std::vector<TokenId> ids() const { return ids(messages_); }
  // The same of other messages, from any thread.
  std::vector<TokenId> ids(std::span<const Message> messages) const;

  // The same of a request, whose arguments go before the options'.
  std::vector<TokenId> ids_of(ChatRequest request, std::span<const ChatAnswer> answers = {}) const;

  // The conversation as text, and one that was saved so: of `source`, a file. Throws std::invalid_argument, saying what differs, where its
  // ids would mean other tokens here, or its template, the template's arguments or the system message are not these; FileError where it is
  // no such text.
  std::string saved() const;
  void restore(std::string_view saved, const std::string& source);

  const ChatTemplate& chat_template() const { return template_; }

  // Each ends an answer: the model's own end tokens, config.json's and tokenizer_config.json's, and how the template ends a turn.
  std::vector<TokenId> end_tokens(const RunningModel& running) const;

 private:
  const Checkpoint& checkpoint_;
  const Tokenizer& tokenizer_;
  ConversationOptions options_;
  ChatFiles files_;
  ChatTemplate template_;
  std::vector<bool> control_tokens_;
  std::vector<Message> messages_;
};

}  // namespace tessera

#include "engine/conversation.h"

#include <algorithm>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

// The checkpoint's files, with another template in place of its own where one is given.
ChatFiles open_files(const Checkpoint& checkpoint, const ConversationOptions& options) {
  ChatFiles files = checkpoint.chat_files(Checkpoint::Tools::absent);
  if (options.chat_template) files.chat_template = options.chat_template;
  check<FileError>(files.chat_template.has_value(), checkpoint.directory().string(),
                   ": has no chat template: is it a base model? Continue a text with it, or name a file with a template by ",
                   options.template_option);
  return files;
}

}  // namespace

Conversation::Conversation(const Checkpoint& checkpoint, const Tokenizer& tokenizer, ConversationOptions options)
    : checkpoint_(checkpoint),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      files_(open_files(checkpoint, options_)),
      template_(files_.chat_template->text, files_.chat_template->place, files_.special_tokens),
      control_tokens_(template_.control_tokens(tokenizer)) {
  reset();
}

void Conversation::reset() {
  messages_.clear();
  if (options_.system) add("system", *options_.system);
}

Conversation::Message Conversation::answer(std::string content, std::vector<TokenId> ids) const {
  // A stop string cuts the text, but not the ids.
  if (tokenizer_.decode(ids, {.skip_special = true}) != content) ids.clear();
  return {"assistant", std::move(content), std::move(ids)};
}

std::vector<TokenId> Conversation::ids(std::span<const Message> said) const {
  std::vector<jinja::Value> messages;
  std::vector<ChatAnswer> answers;
  for (const Message& message : said) {
    const bool is_answer = !message.ids.empty();
    messages.push_back(
        chat_message(message.role, message.content, is_answer ? jinja::answer_origin(answers.size()) : jinja::Origin::person));
    if (is_answer) answers.push_back({message.content, message.ids});
  }
  const jinja::Text text = template_.render({.messages = jinja::Value::list(std::move(messages), true), .arguments = options_.arguments});
  std::vector<TokenId> ids = encode(tokenizer_, control_tokens_, text, answers);
  check(!ids.empty(), "the chat template gives no text for this conversation");
  return ids;
}

std::vector<TokenId> Conversation::end_tokens(const RunningModel& running) const {
  const int64_t vocab_size = running.model().spec().vocab_size;
  std::vector<TokenId> ends = running.generation().tokens.eos;
  const auto add = [&](std::optional<TokenId> id) {
    if (id && *id < vocab_size && std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(*id);
  };
  const JsonDocument nothing = parse_json("{}", "generation_config.json");
  const ConfigReader reader(nothing.root(), "generation_config.json");
  for (const TokenId id : read_special_tokens(reader, checkpoint_.config(), {}, vocab_size).eos) add(id);
  for (const auto& [name, text] : files_.special_tokens)
    if (name == "eos_token") add(tokenizer_.token_to_id(text));
  add(end_of_turn(template_, tokenizer_, control_tokens_));
  return ends;
}

}  // namespace tessera

#include "engine/conversation.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/digest.h"
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

// Of what the ids stand for.
std::string vocabulary_digest(const Tokenizer& tokenizer) {
  std::string tokens;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id)
    (tokens += tokenizer.is_special(id) ? '*' : ' ').append(tokenizer.id_to_token(id)) += '\0';
  return digest(tokens);
}

std::string template_digest(const ChatFiles& files) {
  std::string all = files.chat_template->text;
  for (const auto& [name, text] : files.special_tokens) (all += '\0').append(name + '=' + text);
  return digest(all);
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

std::string told(const std::optional<std::string_view>& text) { return text && !text->empty() ? message(printable(*text)) : "none"; }

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
  return ids_of({.messages = jinja::Value::list(std::move(messages), true)}, answers);
}

std::vector<TokenId> Conversation::ids_of(ChatRequest request, std::span<const ChatAnswer> answers) const {
  for (const auto& [name, value] : options_.arguments)
    if (std::none_of(request.arguments.begin(), request.arguments.end(), [&](const auto& given) { return given.first == name; }))
      request.arguments.emplace_back(name, value);
  const jinja::Text text = template_.render(request);
  std::vector<TokenId> ids = encode(tokenizer_, control_tokens_, text, answers);
  check(!ids.empty(), "the chat template gives no text for this conversation");
  return ids;
}

std::string Conversation::saved() const {
  nlohmann::json messages = nlohmann::json::array();
  for (const Message& message : messages_) messages.push_back({{"role", message.role}, {"content", message.content}, {"ids", message.ids}});
  return nlohmann::json{{"vocabulary", vocabulary_digest(tokenizer_)},
                        {"template", template_digest(files_)},
                        {"arguments", joined(options_.given_arguments)},
                        {"system", options_.system ? nlohmann::json(*options_.system) : nlohmann::json()},
                        {"messages", messages}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void Conversation::restore(std::string_view saved, const std::string& source) {
  const JsonDocument document = parse_json(saved, source, {.max_bytes = saved.size()});
  const JsonValue root = document.root();
  const auto text = [&](const char* field) { return json_as<std::string_view>(root[field]); };
  const auto expect = [&](bool ok) { check<FileError>(ok, source, ": holds no conversation; name another file"); };
  const auto messages = json_as<JsonArray>(root["messages"]);
  expect(messages && text("vocabulary") && text("template") && text("arguments"));
  check(text("vocabulary") == vocabulary_digest(tokenizer_), source,
        ": its conversation is of another tokenizer, in which ids are other tokens; give the model that it was with, or name another file");
  check(text("template") == template_digest(files_), source, ": its conversation is in another chat template than ",
        files_.chat_template->place, "; give the same (--template), or name another file");
  check(text("arguments") == joined(options_.given_arguments), source, ": its template's arguments are ", told(text("arguments")),
        ", those given ", told(joined(options_.given_arguments)), "; give the same --template-arg, or name another file");
  check(text("system") == options_.system, source, ": its system message is ", told(text("system")), ", the one given ",
        told(options_.system), "; give the same --system, or name another file");
  messages_.clear();
  for (const JsonValue message : *messages) {
    const auto role = json_as<std::string_view>(message["role"]), content = json_as<std::string_view>(message["content"]);
    const auto ids = json_as<JsonArray>(message["ids"]);
    expect(role && content && ids && (role == "system" || role == "user" || role == "assistant"));
    if (role != "assistant") {
      add(std::string(*role), std::string(*content));
      continue;
    }
    std::vector<TokenId> answer;
    for (const JsonValue token : *ids) {
      const auto id = json_as<int64_t>(token);
      expect(id && *id >= 0 && *id <= std::numeric_limits<TokenId>::max());  // a model may have more rows than tokens
      answer.push_back(static_cast<TokenId>(*id));
    }
    add_answer(std::string(*content), std::move(answer));
  }
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

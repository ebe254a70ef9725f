// Chat templates for tests in other languages: one JSON request a line on stdin, one JSON answer a line on stdout.
//   {"template": T, "messages": [...], "tools": [...], "arguments": {...}, "special_tokens": {...}, "generate": B,
//    "continue": B}
//     -> {"text": T, "runs": [[END, IS_A_PERSONS], ...]}   END: in bytes
//   ... and "tokenizer": PATH, "answers": {INDEX: [ID, ...]} -> and {"ids": [...], "controls": [...], "end_of_turn": ID or null}
//     answers: of the messages with these indices, the ids that their contents were made of
// A template that is refused is answered by {"refused": TEXT}, one that fails by {"failed": TEXT}, and its own word by {"raised": TEXT}.
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "text/chat_template.h"
#include "text/jinja/json.h"

namespace {

using namespace tessera;
using Json = nlohmann::json;

jinja::Value field(const jinja::Value& request, std::string_view key) {
  const jinja::Value* found = request.dict()->find(key);
  return found ? *found : jinja::Value::none();
}

ChatTemplate compile(const jinja::Value& request) {
  std::vector<std::pair<std::string, std::string>> tokens;
  if (const jinja::Value given = field(request, "special_tokens"); given.dict())
    for (const auto& [key, value] : given.dict()->items) tokens.emplace_back(key.text()->bytes(), value.text()->bytes());
  return ChatTemplate(field(request, "template").text()->view(), "chat template", std::move(tokens));
}

std::vector<ChatAnswer> take_answers(const jinja::Value& request, std::vector<jinja::Value>& messages) {
  std::vector<ChatAnswer> answers;
  const jinja::Value given = field(request, "answers");
  if (!given.dict()) return answers;
  for (const auto& [index, ids] : given.dict()->items) {
    jinja::Value& message = messages[std::stoul(index.text()->bytes())];
    const std::string content = message.dict()->find("content")->text()->bytes();
    message = chat_message("assistant", content, jinja::answer_origin(answers.size()));
    answers.push_back({content, {}});
    for (const jinja::Value& id : ids.list()->items) answers.back().ids.push_back(static_cast<TokenId>(*id.integer()));
  }
  return answers;
}

void add_ids(Json& reply, const std::string& path, const ChatTemplate& chat, const jinja::Text& text,
             const std::vector<ChatAnswer>& answers) {
  static std::map<std::string, Tokenizer> loaded;
  const Tokenizer& tokenizer = loaded.contains(path) ? loaded.at(path) : loaded.emplace(path, Tokenizer::load(path)).first->second;
  const std::vector<bool> controls = chat.control_tokens(tokenizer);
  reply["ids"] = encode(tokenizer, controls, text, answers);
  reply["controls"] = Json::array();
  for (size_t id = 0; id < controls.size(); ++id)
    if (controls[id]) reply["controls"].push_back(id);
  const auto end = end_of_turn(chat, tokenizer, controls);
  reply["end_of_turn"] = end ? Json(*end) : Json();
}

Json answer(const jinja::Value& request) {
  static std::map<std::string, ChatTemplate> compiled;
  std::string key = field(request, "template").text()->bytes();
  if (const jinja::Value tokens = field(request, "special_tokens"); tokens.dict())
    for (const auto& [name, token] : tokens.dict()->items) key += "\f" + name.text()->bytes() + "\f" + token.text()->bytes();
  if (!compiled.contains(key)) compiled.emplace(key, compile(request));
  const ChatTemplate& chat = compiled.at(key);
  ChatRequest given{.messages = field(request, "messages"), .tools = field(request, "tools")};
  std::vector<jinja::Value> messages = given.messages.list()->items;
  const std::vector<ChatAnswer> answers = take_answers(request, messages);
  given.messages = jinja::Value::list(std::move(messages), true);
  if (const jinja::Value arguments = field(request, "arguments"); arguments.dict())
    for (const auto& [name, value] : arguments.dict()->items) given.arguments.emplace_back(name.text()->bytes(), value);
  given.add_generation_prompt = field(request, "generate").truth();
  given.continue_final_message = field(request, "continue").truth();
  const jinja::Text text = chat.render(given);
  Json reply{{"text", text.bytes()}, {"runs", Json::array()}};
  for (const jinja::Text::Run& run : text.runs()) reply["runs"].push_back({run.end, run.origin != jinja::Origin::template_text});
  if (const jinja::Value path = field(request, "tokenizer"); path.text()) add_ids(reply, path.text()->bytes(), chat, text, answers);
  return reply;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json reply;
    try {
      const JsonDocument request = parse_json(line, "request", {.max_bytes = size_t{1} << 30});
      reply = answer(jinja::from_json(request.root(), "request"));
    } catch (const jinja::RaisedException& error) {
      reply = {{"raised", error.what()}};
    } catch (const FileError& error) {
      reply = {{"refused", error.what()}};
    } catch (const std::exception& error) {
      reply = {{"failed", error.what()}};
    }
    std::cout << reply.dump() << "\n" << std::flush;
  }
  return 0;
}

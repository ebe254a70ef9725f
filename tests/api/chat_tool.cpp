// Chats for tests in other languages: one JSON request a line on stdin, one JSON answer a line on stdout.
//   {"template": T, "special_tokens": {...}, "tokenizer": PATH or null, "body": a body of /v1/chat/completions}
//     -> {"format": {...}, "text": T, "ids": [ID, ...], "controls": [...]}   ids, controls: with a tokenizer only
// What cannot be rendered is answered by {"format": {...}, "error": TEXT, "param": TEXT}.
#include <array>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "api/answer_format.h"
#include "api/chat_request.h"
#include "core/json.h"
#include "text/small_tokenizer.h"

namespace {

using namespace tessera;
using api::AnswerFormat;
using nlohmann::ordered_json;

ordered_json format_json(const AnswerFormat& format) {
  constexpr std::array kCalls{"tagged", "object", "list", "named"};
  return {{"calls", kCalls.at(static_cast<size_t>(format.calls))},
          {"tools_in_template", format.tools_in_template},
          {"arguments_are_text", format.arguments_are_text},
          {"short_call_ids", format.short_call_ids},
          {"has_system", format.has_system},
          {"has_developer", format.has_developer},
          {"think_begin", format.think_begin},
          {"think_end", format.think_end}};
}

const Tokenizer& tokenizer_of(const ordered_json& path) {
  static std::map<std::string, Tokenizer> loaded;
  const std::string key = path.is_string() ? path.get<std::string>() : "";
  const auto found = loaded.find(key);
  if (found != loaded.end()) return found->second;
  return loaded.emplace(key, key.empty() ? parse(small_tokenizer()) : Tokenizer::load(key)).first->second;
}

ordered_json answer(const ordered_json& request) {
  static std::map<std::string, ChatTemplate> compiled;
  const std::string source = request["template"], key = source + request["special_tokens"].dump();
  if (!compiled.contains(key)) {
    std::vector<std::pair<std::string, std::string>> tokens;
    for (const auto& [name, token] : request["special_tokens"].items()) tokens.emplace_back(name, token);
    compiled.emplace(key, ChatTemplate(source, "chat template", std::move(tokens)));
  }
  const ChatTemplate& chat = compiled.at(key);
  const bool has_tokenizer = request.contains("tokenizer") && request["tokenizer"].is_string();
  const Tokenizer& tokenizer = tokenizer_of(request.value("tokenizer", ordered_json()));
  const AnswerFormat format = api::find_answer_format(chat, tokenizer);
  ordered_json reply{{"format", format_json(format)}};
  try {
    const JsonDocument body = parse_json(request["body"].dump(), "body");
    const auto fields = api::read_chat_completion(*json_as<JsonObject>(body.root()), 1000);
    const jinja::Text text = chat.render(chat_request(fields, format));
    reply["text"] = text.bytes();
    if (!has_tokenizer) return reply;
    const std::vector<bool> controls = chat.control_tokens(tokenizer);
    reply["ids"] = encode(tokenizer, controls, text, {});
    reply["controls"] = ordered_json::array();
    for (size_t id = 0; id < controls.size(); ++id)
      if (controls[id]) reply["controls"].push_back(id);
  } catch (const api::FieldError& error) {
    reply["error"] = error.what();
    reply["param"] = error.param();
  } catch (const std::exception& error) {
    reply["error"] = error.what();
  }
  return reply;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    ordered_json reply;
    try {
      reply = answer(ordered_json::parse(line));
    } catch (const std::exception& error) {
      reply = {{"refused", error.what()}};
    }
    std::cout << reply.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << "\n" << std::flush;
  }
  return 0;
}

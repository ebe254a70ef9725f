#include <algorithm>
#include <utility>

#include "api/chat_completions.h"
#include "api/chunks.h"

namespace tessera::api {
namespace {

// The text of a token with its bytes, which are null where they alone are no character.
Json token_json(const TokenText& token) {
  Json json{{"token", token.text}, {"logprob", token.logprob}, {"bytes", nullptr}};
  if (token.text.find("\xEF\xBF\xBD") == std::string::npos) {
    json["bytes"] = Json::array();
    for (const char byte : token.text) json["bytes"].push_back(static_cast<unsigned char>(byte));
  }
  return json;
}

Json logprobs_json(const std::vector<TokenChoice>& tokens) {
  Json content = Json::array();
  for (const TokenChoice& token : tokens) {
    Json& entry = content.emplace_back(token_json(token.chosen));
    entry["top_logprobs"] = Json::array();
    for (const TokenText& top : token.top) entry["top_logprobs"].push_back(token_json(top));
  }
  return {{"content", content}, {"refusal", nullptr}};
}

Json call_json(const ToolCall& call) {
  return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

Json call_json(const AnswerDelta::Call& call) {
  if (call.id.empty()) return {{"index", call.index}, {"function", {{"arguments", call.arguments}}}};
  Json json{{"index", call.index}};
  json.update(call_json(ToolCall{call.id, call.name, call.arguments}));
  return json;
}

template <class Calls>
Json calls_json(const Calls& calls) {
  Json all = Json::array();
  for (const auto& call : calls) all.push_back(call_json(call));
  return all;
}

Json message_json(const Choice& choice) {
  const bool calls = !choice.tool_calls.empty();
  Json message{{"role", "assistant"}, {"content", calls && choice.text.empty() ? Json() : Json(choice.text)}, {"refusal", nullptr}};
  if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
  if (calls) message["tool_calls"] = calls_json(choice.tool_calls);
  return message;
}

Json choice_json(size_t index, const Choice& choice) {
  Json json{{"index", index},
            {"message", message_json(choice)},
            {"logprobs", choice.tokens ? logprobs_json(*choice.tokens) : Json()},
            {"finish_reason", choice.finish_reason}};
  if (choice.ids) json["token_ids"] = *choice.ids;
  return json;
}

Json part_json(size_t index, Json delta) {
  return {{"index", index}, {"delta", std::move(delta)}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
}

class ChatWriter : public AnswerWriter {
 public:
  ChatWriter(AnswerHeader header, const GenerationFields& fields)
      : header_(std::move(header)), chunks_(header_, "chat.completion.chunk", fields) {}

  std::string events(const AnswerDelta& part, const Usage& usage) override {
    if (part.text.empty() && part.reasoning.empty() && part.calls.empty() && part.tokens.empty() && part.prompt_tokens.empty() &&
        part.ids.empty() && part.prompt_ids.empty() && part.finish_reason.empty())
      return "";
    std::string roles;  // clients want the choices to begin in their order
    for (; begun_ < part.choice; ++begun_) roles += chunks_.event(part_json(begun_, {{"role", "assistant"}}), usage);
    Json delta = Json::object();
    if (begun_ == part.choice) delta["role"] = "assistant";
    begun_ = std::max(begun_, part.choice + 1);
    if (!part.reasoning.empty()) delta["reasoning_content"] = part.reasoning;
    if (!part.text.empty()) delta["content"] = part.text;
    if (!part.calls.empty()) delta["tool_calls"] = calls_json(part.calls);
    Json choice = part_json(part.choice, std::move(delta));
    if (!part.tokens.empty()) choice["logprobs"] = logprobs_json(part.tokens);
    if (!part.finish_reason.empty()) choice["finish_reason"] = part.finish_reason;
    if (!part.ids.empty()) choice["token_ids"] = part.ids;
    Json more = Json::object();
    if (!part.prompt_tokens.empty()) more["prompt_logprobs"] = prompt_logprobs_json(part.prompt_tokens);
    if (!part.prompt_ids.empty()) more["prompt_token_ids"] = part.prompt_ids;
    return roles + chunks_.event(choice, usage, more);
  }

  std::string last_events(const Usage& usage) override { return chunks_.last_events(usage); }
  std::string error_events(const Failure& failure) const override { return event(failure.body); }
  Json body(std::span<const Choice> choices, const Usage& usage) const override { return chat_completion(header_, choices, usage); }

 private:
  AnswerHeader header_;
  Chunks chunks_;
  size_t begun_ = 0;  // choices whose role has been told
};

}  // namespace

std::unique_ptr<AnswerWriter> chat_writer(AnswerHeader header, const GenerationFields& fields) {
  return std::make_unique<ChatWriter>(std::move(header), fields);
}

Json chat_completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage) {
  Json all = Json::array();
  for (const Choice& choice : choices) all.push_back(choice_json(all.size(), choice));
  Json body{{"id", header.id}, {"object", "chat.completion"}, {"created", header.created}, {"model", header.model},
            {"choices", all},  {"usage", usage_json(usage)}};
  if (choices.empty()) return body;
  if (const auto& tokens = choices.front().prompt_tokens) body["prompt_logprobs"] = prompt_logprobs_json(*tokens);
  if (const auto& ids = choices.front().prompt_ids) body["prompt_token_ids"] = *ids;
  return body;
}

}  // namespace tessera::api

// Each line is a JSON object, and so is each answer.
//   api_tool read   {"url", "body"} or {"url", "text"}, the body's own bytes -> {"fields"}, or what a client is answered: {"error"}
//   api_tool write  {"url", "body", "parts", "usage"}, deltas -> {"events"}; with "choices" in place of "parts": {"body"}
//                  {"url": "/v1/messages/count_tokens", "tokens"} -> {"body"}
//   api_tool error  {"url", "status", "message"} -> the body of such an answer
#include <iostream>
#include <string>

#include "api/chat_completions.h"
#include "api/completions.h"
#include "api/messages.h"
#include "api/responses.h"
#include "api/tokenize.h"

namespace {

using namespace tessera;
using namespace tessera::api;

constexpr int64_t kVocabSize = 200;

template <class T>
Json json_of(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json json_of(const GenerationFields& fields) {
  std::map<std::string, double> biases;
  for (const auto& [id, bias] : fields.logit_bias) biases[std::to_string(id)] = bias;
  Json json{{"model", json_of(fields.model)},
            {"temperature", json_of(fields.temperature)},
            {"top_p", json_of(fields.top_p)},
            {"min_p", json_of(fields.min_p)},
            {"top_k", json_of(fields.top_k)},
            {"presence_penalty", json_of(fields.presence_penalty)},
            {"frequency_penalty", json_of(fields.frequency_penalty)},
            {"repetition_penalty", json_of(fields.repetition_penalty)},
            {"min_tokens", json_of(fields.min_tokens)},
            {"max_tokens", json_of(fields.max_tokens)},
            {"ignore_eos", json_of(fields.ignore_eos)},
            {"seed", json_of(fields.seed)},
            {"logit_bias", biases},
            {"stop", json_of(fields.stop)},
            {"stop_token_ids", fields.stop_token_ids},
            {"logprobs", json_of(fields.logprobs)},
            {"prompt_logprobs", json_of(fields.prompt_logprobs)},
            {"n", fields.n},
            {"priority", fields.priority},
            {"cache_salt", fields.cache_salt},
            {"return_token_ids", fields.return_token_ids},
            {"include_stop", fields.include_stop},
            {"skip_special_tokens", fields.skip_special_tokens},
            {"stream", fields.stream},
            {"include_usage", fields.include_usage},
            {"continuous_usage", fields.continuous_usage}};
  if (fields.format)
    json["format"] = {{"kind", static_cast<int>(fields.format->kind)}, {"text", fields.format->text}, {"strict", fields.format->strict}};
  return json;
}

Json json_of(const ChatMessage& message) {
  Json json{{"role", message.role},          {"content", json_of(message.content)},
            {"name", json_of(message.name)}, {"reasoning", json_of(message.reasoning)},
            {"tool_calls", Json::array()},   {"tool_call_id", message.tool_call_id}};
  for (const ToolCall& call : message.tool_calls)
    json["tool_calls"].push_back({{"id", call.id}, {"name", call.name}, {"arguments", call.arguments}});
  return json;
}

Json json_of(const ChatCompletionFields& fields) {
  Json json{{"messages", Json::array()},
            {"arguments", Json::array()},
            {"tools", Json::array()},
            {"tool_choice", static_cast<int>(fields.tools.choice)},
            {"tool_name", fields.tools.name},
            {"parallel", fields.tools.parallel},
            {"add_generation_prompt", fields.add_generation_prompt},
            {"continue_final_message", fields.continue_final_message},
            {"generation", json_of(fields.generation)}};
  for (const ChatMessage& message : fields.messages) json["messages"].push_back(json_of(message));
  for (const auto& [name, value] : fields.arguments)
    json["arguments"].push_back(name + " " + std::string(value.type()) + (value.truth() ? " true" : " false"));
  for (const ToolDefinition& tool : fields.tools.definitions)
    json["tools"].push_back(
        {{"name", tool.name}, {"description", tool.description}, {"parameters", tool.parameters}, {"strict", tool.strict}});
  return json;
}

Json json_of(const CompletionFields& fields) {
  Json json{{"prompts", Json::array()},
            {"echo", fields.echo},
            {"add_special_tokens", fields.add_special_tokens},
            {"generation", json_of(fields.generation)}};
  for (const auto& prompt : fields.prompts) std::visit([&](const auto& one) { json["prompts"].push_back(one); }, prompt);
  return json;
}

Json json_of(const TokenizeFields& fields) {
  const auto* const text = std::get_if<std::string>(&fields.prompt);
  return {{"model", json_of(fields.model)},
          {"prompt", text ? Json(*text) : json_of(std::get<ChatCompletionFields>(fields.prompt))},
          {"add_special_tokens", fields.add_special_tokens},
          {"return_token_strs", fields.return_token_strs}};
}

Json json_of(const DetokenizeFields& fields) { return {{"model", json_of(fields.model)}, {"tokens", fields.tokens}}; }

Json read(const std::string& url, const std::string& text) {
  const JsonDocument document = parse_body(text);
  const JsonObject body = *json_as<JsonObject>(document.root());
  if (url == "/v1/chat/completions") return json_of(read_chat_completion(body, kVocabSize));
  if (url == "/v1/completions") return json_of(read_completion(body, kVocabSize));
  if (url == "/v1/responses") return json_of(read_response(body, kVocabSize));
  if (url == "/v1/messages") return json_of(read_message_request(body, kVocabSize));
  if (url == "/v1/messages/count_tokens") return json_of(read_count_tokens(body));
  if (url == "/tokenize") return json_of(read_tokenize(body));
  if (url == "/detokenize") return json_of(read_detokenize(body, kVocabSize));
  throw std::invalid_argument("url: is not known");
}

TokenText token_of(const Json& json) { return {json.at("text"), json.at("logprob"), json.value("id", 0), json.value("rank", int64_t{0})}; }

std::vector<TokenChoice> tokens_of(const Json& json) {
  std::vector<TokenChoice> tokens;
  for (const Json& one : json) {
    TokenChoice& token = tokens.emplace_back(TokenChoice{.chosen = token_of(one), .top = {}, .known = one.value("known", true)});
    for (const Json& top : one.value("top", Json::array())) token.top.push_back(token_of(top));
  }
  return tokens;
}

AnswerDelta delta_of(const Json& json) {
  AnswerDelta delta{.choice = json.value("choice", size_t{0}),
                    .text = json.value("text", ""),
                    .reasoning = json.value("reasoning", ""),
                    .calls = {},
                    .tokens = tokens_of(json.value("tokens", Json::array())),
                    .prompt_tokens = tokens_of(json.value("prompt_tokens", Json::array())),
                    .ids = json.value("ids", std::vector<TokenId>()),
                    .prompt_ids = json.value("prompt_ids", std::vector<TokenId>()),
                    .finish_reason = json.value("finish_reason", ""),
                    .stop_string = json.value("stop_string", "")};
  for (const Json& call : json.value("calls", Json::array()))
    delta.calls.push_back({call.at("index"), call.value("id", ""), call.value("name", ""), call.value("arguments", "")});
  return delta;
}

Choice choice_of(const Json& json) {
  Choice choice{.text = json.value("text", ""),
                .reasoning = json.value("reasoning", ""),
                .tool_calls = {},
                .tokens = {},
                .prompt_tokens = {},
                .ids = {},
                .prompt_ids = {},
                .finish_reason = json.value("finish_reason", ""),
                .stop_string = json.value("stop_string", "")};
  for (const Json& call : json.value("calls", Json::array()))
    choice.tool_calls.push_back({call.at("id"), call.at("name"), call.at("arguments")});
  if (json.contains("tokens")) choice.tokens = tokens_of(json["tokens"]);
  if (json.contains("prompt_tokens")) choice.prompt_tokens = tokens_of(json["prompt_tokens"]);
  if (json.contains("ids")) choice.ids = json["ids"].get<std::vector<TokenId>>();
  if (json.contains("prompt_ids")) choice.prompt_ids = json["prompt_ids"].get<std::vector<TokenId>>();
  return choice;
}

std::unique_ptr<AnswerWriter> make_writer(const std::string& url, JsonObject body) {
  const AnswerHeader header{.id = "x-1", .model = "a \"model\"", .created = 1'700'000'000};
  if (url == "/v1/responses") return responses_writer(header, read_response(body, kVocabSize));
  if (url == "/v1/messages") return messages_writer(header, read_message_request(body, kVocabSize).generation);
  Fields fields(body);
  const GenerationFields generation = read_generation_fields(fields, kVocabSize);
  return url == "/v1/chat/completions" ? chat_writer(header, generation) : completion_writer(header, generation);
}

Json write(const Json& line) {
  if (line.at("url") == "/v1/messages/count_tokens") return {{"body", token_count(line.at("tokens"))}};
  const std::string body = json_text(line.at("body"));
  const JsonDocument document = parse_body(body);
  const auto writer = make_writer(line.at("url"), *json_as<JsonObject>(document.root()));
  Usage usage{.prompt_tokens = 7, .cached_tokens = 3, .completion_tokens = 0, .reasoning_tokens = 2};
  if (line.contains("choices")) {
    std::vector<Choice> choices;
    for (const Json& one : line["choices"]) choices.push_back(choice_of(one));
    usage.completion_tokens = 5;
    return {{"body", writer->body(choices, usage)}};
  }
  std::string events;
  for (const Json& part : line.at("parts")) {
    ++usage.completion_tokens;
    events += writer->events(delta_of(part), usage);
  }
  events += line.contains("error") ? writer->error_events(failure(503, line["error"])) : writer->last_events(usage);
  return {{"events", events}};
}

Json answer(const std::string& mode, const Json& line) {
  if (mode == "write") return write(line);
  if (mode == "error") {
    const Failure told = failure(line.at("status").get<int>(), line.at("message"));
    return line.at("url") == "/v1/messages" ? messages_error(told) : told.body;
  }
  try {
    return {{"fields", read(line.at("url"), line.contains("text") ? line["text"].get<std::string>() : json_text(line.at("body")))}};
  } catch (const std::exception& error) {
    Failure told = failure(error);
    told.body["status"] = told.status;
    return told.body;
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << json_text(answer(argc > 1 ? argv[1] : "", Json::parse(line))) << std::endl;
  return 0;
}

#include "api/chat_completions.h"

#include <algorithm>
#include <array>

#include "api/chat_messages.h"
#include "api/tool_fields.h"
#include "text/jinja/json.h"

namespace tessera::api {
namespace {

constexpr size_t kMostArguments = 64;

// A template's variables that are not a request's to set, and what transformers' apply_chat_template is called with.
bool is_reserved(std::string_view name) {
  constexpr std::array<std::string_view, 15> kReserved{"messages",
                                                       "conversation",
                                                       "tools",
                                                       "documents",
                                                       "chat_template",
                                                       "add_generation_prompt",
                                                       "continue_final_message",
                                                       "tokenize",
                                                       "padding",
                                                       "truncation",
                                                       "max_length",
                                                       "return_tensors",
                                                       "return_dict",
                                                       "return_assistant_tokens_mask",
                                                       "tokenizer_kwargs"};
  return name.ends_with("_token") || std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

// What would change the answer, and is not there.
void refuse_others(Fields& body) {
  body.expect_usual("modalities", {"[\"text\"]"});
  body.expect_usual("add_special_tokens", {"false"});  // a template writes them
  body.expect_usual("include_reasoning", {"true"});
  body.expect_usual("echo", {"false"});
  for (const char* name : {"audio", "functions", "function_call", "web_search_options", "chat_template", "documents"})
    body.expect_usual(name, {});
}

}  // namespace

ChatArguments read_arguments(Fields& body) {
  const auto given = body.object("chat_template_kwargs");
  if (!given) return {};
  const std::string param = body.param("chat_template_kwargs");
  expect(given->size() <= kMostArguments, param, "has ", given->size(), " entries; at most ", kMostArguments, " are taken");
  ChatArguments arguments;
  for (const auto field : *given) {
    expect(!is_reserved(field.key), param, printable(field.key), " is not a request's to set; leave it out");
    expect(!json_as<JsonObject>(field.value) && !json_as<JsonArray>(field.value), param, printable(field.key),
           " must be a text, a number, true, false or null");
    arguments.emplace_back(std::string(field.key), jinja::from_json(field.value, param));
  }
  return arguments;
}

ChatCompletionFields read_chat(Fields& body) {
  ChatCompletionFields fields{.messages = read_messages(body), .arguments = read_arguments(body), .tools = read_tools(body)};
  fields.continue_final_message = body.boolean("continue_final_message").value_or(false);
  const auto begins = body.boolean("add_generation_prompt");
  expect(!(fields.continue_final_message && begins.value_or(false)), body.param("continue_final_message"),
         "does not go with add_generation_prompt");
  fields.add_generation_prompt = begins.value_or(!fields.continue_final_message);
  refuse_others(body);
  return fields;
}

ChatCompletionFields read_chat_completion(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  ChatCompletionFields fields = read_chat(body);
  GenerationFields& generation = fields.generation = read_generation_fields(body, vocab_size);
  generation.max_tokens = body.integer("max_tokens", 1, kMostTokens);
  if (const auto most = body.integer("max_completion_tokens", 1, kMostTokens)) generation.max_tokens = most;
  const auto top = body.integer("top_logprobs", 0, kMostTop);
  if (body.boolean("logprobs").value_or(false)) generation.logprobs = top.value_or(0);
  expect(generation.logprobs || top.value_or(0) == 0, body.param("top_logprobs"), "wants logprobs to be true");
  return fields;
}

}  // namespace tessera::api

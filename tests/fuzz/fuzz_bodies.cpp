// A first byte that chooses the route, and a body. It is read, or refused as 400 with the name of a field that begins the message.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/chat_completions.h"
#include "api/chat_request.h"
#include "api/completions.h"
#include "api/messages.h"
#include "api/responses.h"
#include "api/tokenize.h"

namespace {

using namespace tessera;
using namespace tessera::api;

constexpr int64_t kVocabSize = 200;

void expect_true(bool ok) {
  if (!ok) std::abort();
}

bool is_id(TokenId id) { return id >= 0 && id < kVocabSize; }

void expect_limits(const GenerationFields& fields) {
  expect_true(fields.n >= 1 && fields.n <= 8 && fields.logprobs.value_or(0) <= 20 && fields.prompt_logprobs.value_or(0) <= 20);
  expect_true(fields.max_tokens.value_or(0) >= 0 && fields.min_tokens.value_or(0) >= 0 && fields.top_k.value_or(0) >= 0);
  for (const TokenId id : fields.stop_token_ids) expect_true(is_id(id));
  for (const auto& [id, bias] : fields.logit_bias) expect_true(is_id(id) && bias >= -100 && bias <= 100);
  if (fields.stop)
    for (const std::string& stop : *fields.stop) expect_true(!stop.empty());
}

void expect_limits(const ChatCompletionFields& fields) {
  expect_true(!fields.messages.empty() && !(fields.add_generation_prompt && fields.continue_final_message));
  expect_true(fields.tools.choice != Tools::Choice::required || !fields.tools.definitions.empty());
  for (const ChatMessage& message : fields.messages)
    for (const ToolCall& call : message.tool_calls)
      expect_true(nlohmann::json::parse(call.arguments).is_object() && message.role == "assistant");
  for (const ToolDefinition& tool : fields.tools.definitions)
    expect_true(!tool.name.empty() && (tool.parameters.empty() || nlohmann::json::parse(tool.parameters).is_object()));
}

// Two messages behind each other are never the same speaker's.
void expect_turns(const std::vector<ChatMessage>& messages) {
  for (size_t i = 1; i < messages.size(); ++i) expect_true(messages[i].role != messages[i - 1].role || messages[i].role == "tool");
}

void read(size_t route, std::string_view text) {
  const JsonDocument document = parse_body(text);
  const JsonObject body = *json_as<JsonObject>(document.root());
  if (route == 0) {
    const ChatCompletionFields fields = read_chat_completion(body, kVocabSize);
    expect_limits(fields);
    expect_limits(fields.generation);
    chat_request(fields);
  }
  if (route == 1) {
    const CompletionFields fields = read_completion(body, kVocabSize);
    expect_limits(fields.generation);
    expect_true(!fields.prompts.empty());
    for (const auto& prompt : fields.prompts)
      if (const auto* const ids = std::get_if<std::vector<TokenId>>(&prompt))
        for (const TokenId id : *ids) expect_true(is_id(id));
  }
  if (route == 2) {
    const TokenizeFields fields = read_tokenize(body);
    if (const auto* const chat = std::get_if<ChatCompletionFields>(&fields.prompt)) expect_limits(*chat);
  }
  if (route == 3)
    for (const TokenId id : read_detokenize(body, kVocabSize).tokens) expect_true(is_id(id));
  if (route >= 4) {
    const ChatCompletionFields fields = route == 4   ? read_response(body, kVocabSize)
                                        : route == 5 ? read_message_request(body, kVocabSize)
                                                     : read_count_tokens(body);
    expect_limits(fields);
    expect_limits(fields.generation);
    expect_turns(fields.messages);
    if (route == 5) expect_true(fields.generation.max_tokens.has_value());
    chat_request(fields);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    read((data[0] - size_t{'0'}) % 7, {reinterpret_cast<const char*>(data) + 1, size - 1});
  } catch (const std::exception& error) {
    const Failure told = failure(error);
    expect_true(told.status == 400);
    const auto& param = told.body["error"]["param"];
    const std::string message = told.body["error"]["message"];
    expect_true(!message.empty() && (param.is_null() || message.starts_with(param.get<std::string>())));
    expect_true(json_text(told.body).find('\n') == std::string::npos);
  }
  return 0;
}

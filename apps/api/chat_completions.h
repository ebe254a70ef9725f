#pragma once
#include <memory>
#include <span>

#include "api/answer_writer.h"
#include "api/generation_fields.h"
#include "text/chat_template.h"

namespace tessera::api {

struct ChatMessage {
  std::string role;                         // system, developer, user, assistant or tool
  std::optional<std::string> content = {};  // of parts: one text, a line each
  std::optional<std::string> name = {}, reasoning = {};
  std::vector<ToolCall> tool_calls = {};  // an assistant's
  std::string tool_call_id = {};          // a tool's
};

struct ToolDefinition {
  std::string name, description;
  std::string parameters;  // a JSON schema; "": none
  bool strict = false;
};

struct Tools {
  enum class Choice { none, automatic, required, named };
  std::vector<ToolDefinition> definitions;
  Choice choice = Choice::automatic;
  std::string name;      // the named one
  bool parallel = true;  // several calls in an answer
};

// What the chat-shaped routes have in common: the body of a POST to /v1/chat/completions; those to /v1/responses and /v1/messages are
// translated to it.
struct ChatCompletionFields {
  std::vector<ChatMessage> messages;
  ChatArguments arguments;  // chat_template_kwargs
  Tools tools;
  bool add_generation_prompt = true, continue_final_message = false;
  GenerationFields generation;
};

// Throws FieldError, naming the field, for what is not supported: pictures, sounds. Fields that it does not know are left alone.
ChatCompletionFields read_chat_completion(JsonObject body, int64_t vocab_size);
// The same but for `generation`: of a prompt alone.
ChatCompletionFields read_chat(Fields& body);
// The field chat_template_kwargs: texts, numbers, true, false and null.
ChatArguments read_arguments(Fields& body);

// Events of chat.completion.chunk, or the object chat.completion. What the whole prompt consists of is told with its first choice's.
std::unique_ptr<AnswerWriter> chat_writer(AnswerHeader header, const GenerationFields& fields);

Json chat_completion(const AnswerHeader& header, std::span<const Choice> choices, const Usage& usage);

}  // namespace tessera::api

#include "api/messages.h"

#include <algorithm>
#include <utility>

#include "api/tool_fields.h"
#include "api/turns.h"
#include "core/error.h"

namespace tessera::api {
namespace {

constexpr size_t kMostMessages = 2048, kMostBlocks = 1024;

[[noreturn]] void refuse_block(Fields& block, const std::string& type) {
  refuse(block.param("type"), printable(type), " is not supported here; only text is");
}

// A text, or blocks of text without those that begin with `but`.
std::string read_texts(Fields& object, std::string_view name, std::string_view but = "") {
  const auto given = object.value(name);
  if (const auto text = given ? json_as<std::string_view>(*given) : std::nullopt) return std::string(*text);
  expect(!given || json_as<JsonArray>(*given), object.param(name), "must be a text or a list of blocks");
  std::optional<std::string> all;
  for (Fields& block : object.objects(name, kMostBlocks)) {
    if (const std::string type = block.needed_text("type"); type != "text") refuse_block(block, type);
    const std::string text = block.needed_text("text");
    if (but.empty() || !text.starts_with(but)) add_lines(all, text);
  }
  return all.value_or("");
}

void read_block(Fields& block, const std::string& role, std::vector<ChatMessage>& messages) {
  const std::string type = block.needed_text("type");
  const bool of_assistant = role == "assistant";
  if (type == "text") {
    add_turn(messages, {.role = role, .content = block.needed_text("text")});
  } else if (type == "thinking" && of_assistant) {
    add_turn(messages, {.role = role, .reasoning = block.needed_text("thinking")});
  } else if (type == "redacted_thinking" && of_assistant) {  // nobody here can read it
  } else if (type == "tool_use" && of_assistant) {
    add_turn(messages, {.role = role,
                        .tool_calls = {{.id = block.needed_text("id"),
                                        .name = block.needed_text("name"),
                                        .arguments = simdjson::minify(block.needed_object("input"))}}});
  } else if (type == "tool_result" && role == "user") {
    add_turn(messages, {.role = "tool", .content = read_texts(block, "content"), .tool_call_id = block.needed_text("tool_use_id")});
  } else {
    refuse_block(block, type);
  }
}

std::vector<ChatMessage> read_turns(Fields& body) {
  std::vector<ChatMessage> messages;
  if (body.value("system")) {
    std::string system = read_texts(body, "system", "x-anthropic-billing-header:");
    if (!system.empty()) messages.push_back({.role = "system", .content = std::move(system)});
  }
  std::vector<Fields> given = body.objects("messages", kMostMessages);
  expect(!given.empty(), body.param("messages"), "must be a list of at least one message");
  for (Fields& message : given) {
    const std::string role = message.needed_text("role");
    expect(role == "user" || role == "assistant" || role == "system", message.param("role"), "must be user, assistant or system");
    const auto content = message.value("content");
    expect(content.has_value(), message.param("content"), "is not there");
    if (const auto text = json_as<std::string_view>(*content)) {
      add_turn(messages, {.role = role, .content = std::string(*text)});
      continue;
    }
    expect(json_as<JsonArray>(*content).has_value(), message.param("content"), "must be a text or a list of blocks");
    for (Fields& block : message.objects("content", kMostBlocks)) read_block(block, role, messages);
  }
  expect(!messages.empty(), body.param("messages"), "have no text");
  return messages;
}

void read_choice(Fields& body, Tools& tools) {
  const auto given = body.object("tool_choice");
  if (!given) return;
  Fields choice(*given, body.param("tool_choice") + ".");
  const std::string type = choice.needed_text("type");
  expect(type == "auto" || type == "any" || type == "tool" || type == "none", choice.param("type"), "must be auto, any, tool or none");
  if (type == "auto") choose(tools, Tools::Choice::automatic, choice.param("type"));
  if (type == "any") choose(tools, Tools::Choice::required, choice.param("type"));
  if (type == "none") choose(tools, Tools::Choice::none, choice.param("type"));
  if (type == "tool") choose_named(tools, choice.needed_text("name"), choice.param("name"));
  tools.parallel = !choice.boolean("disable_parallel_tool_use").value_or(false);
}

Tools read_client_tools(Fields& body) {
  Tools tools;
  for (Fields& tool : body.objects("tools", kMostTools)) {
    if (tool.text("type").value_or("custom") != "custom") continue;
    add_tool(tools,
             {.name = tool.needed_text("name"),
              .description = tool.text("description").value_or(""),
              .parameters = simdjson::minify(tool.needed_object("input_schema")),
              .strict = tool.boolean("strict").value_or(false)},
             tool.param("name"));
  }
  read_choice(body, tools);
  return tools;
}

// Qwen's name for it, which templates without thinking leave alone; what is neither asked for nor forbidden is the template's to say.
ChatArguments read_template_arguments(Fields& body) {
  ChatArguments arguments = read_arguments(body);
  const auto given = body.object("thinking");
  if (!given) return arguments;
  Fields thinking(*given, body.param("thinking") + ".");
  const std::string type = thinking.needed_text("type");
  const bool is_word = type == "enabled" || type == "disabled" || type == "adaptive" || type == "between_tools";
  expect(is_word, thinking.param("type"), "must be enabled, disabled, adaptive or between_tools");
  const bool is_set = std::any_of(arguments.begin(), arguments.end(), [](const auto& one) { return one.first == "enable_thinking"; });
  if (!is_set && (type == "enabled" || type == "disabled"))
    arguments.emplace_back("enable_thinking", jinja::Value(type == "enabled", true));
  return arguments;
}

std::optional<GrammarSource> read_format(Fields& body) {
  const auto config = body.object("output_config");
  const auto given = config ? Fields(*config, body.param("output_config") + ".").object("format") : std::nullopt;
  if (!given) return std::nullopt;
  Fields format(*given, body.param("output_config") + ".format.");
  expect(format.text("type") == "json_schema", format.param("type"), "must be json_schema");
  return GrammarSource{.kind = GrammarSource::Kind::json_schema, .text = simdjson::minify(format.needed_object("schema"))};
}

ChatCompletionFields read_prompt(Fields& body) {
  body.expect_usual("mcp_servers", {"[]"});
  body.expect_usual("container", {});
  ChatCompletionFields fields{
      .messages = read_turns(body), .arguments = read_template_arguments(body), .tools = read_client_tools(body), .generation = {}};
  const ChatMessage& last = fields.messages.back();
  fields.continue_final_message = last.role == "assistant" && last.content && last.tool_calls.empty();
  fields.add_generation_prompt = !fields.continue_final_message;
  return fields;
}

Json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens}};
}

// What a call is given: an object, empty where the answer ended within its text.
Json input_of(const std::string& arguments) {
  try {
    const JsonDocument document = parse_json(arguments, "arguments");  // no deeper than what is written below can be
    if (json_as<JsonObject>(document.root())) return Json::parse(arguments);
  } catch (const FileError&) {
  }
  return Json::object();
}

class MessagesWriter : public AnswerWriter {
 public:
  MessagesWriter(const AnswerHeader& header, const GenerationFields& fields)
      : stops_(fields.stop.value_or(std::vector<std::string>())),
        message_{{"id", header.id},          {"type", "message"},      {"role", "assistant"},      {"model", header.model},
                 {"content", Json::array()}, {"stop_reason", nullptr}, {"stop_sequence", nullptr}, {"usage", nullptr}} {}

  std::string events(const AnswerDelta& delta, const Usage& usage) override {
    std::string events;
    say(events, delta, usage);
    return events;
  }
  std::string last_events(const Usage& usage) override {
    std::string events;
    end(events, usage);
    return events;
  }
  std::string error_events(const Failure& failure) const override { return event(messages_error(failure), "error"); }
  Json body(std::span<const Choice> choices, const Usage& usage) const override {
    MessagesWriter whole = *this;
    std::string events;
    for (const Choice& choice : choices.first(1)) whole.say(events, whole_delta(choice), usage);
    whole.end(events, usage);
    return whole.message_;
  }

 private:
  enum class Kind { thinking, text, tool_use };
  struct Block {
    Kind kind;
    size_t call = 0;       // a tool_use's index
    std::string id, name;  // a tool_use's
    std::string text = {};
  };

  static void add(std::string& events, std::string_view type, const Json& fields) {
    Json data{{"type", type}};
    data.update(fields);
    events += event(data, type);
  }

  void begin(std::string& events, const Usage& usage) {
    if (std::exchange(begun_, true)) return;
    message_["usage"] = usage_of(usage);
    add(events, "message_start", {{"message", message_}});
    add(events, "ping", Json::object());
  }

  void say(std::string& events, const AnswerDelta& delta, const Usage& usage) {
    if (!delta.finish_reason.empty()) finish(delta);
    if (delta.reasoning.empty() && delta.text.empty() && delta.calls.empty()) return;
    begin(events, usage);
    if (!delta.reasoning.empty()) go_on(events, {.kind = Kind::thinking}, delta.reasoning);
    if (!delta.text.empty()) go_on(events, {.kind = Kind::text}, delta.text);
    for (const AnswerDelta::Call& call : delta.calls)
      go_on(events, {.kind = Kind::tool_use, .call = call.index, .id = call.id, .name = call.name}, call.arguments);
  }

  // A checkpoint's own stop strings are the end of a turn.
  void finish(const AnswerDelta& delta) {
    const bool is_theirs = std::find(stops_.begin(), stops_.end(), delta.stop_string) != stops_.end();
    message_["stop_reason"] = delta.finish_reason == "length"       ? "max_tokens"
                              : delta.finish_reason == "tool_calls" ? "tool_use"
                              : is_theirs                           ? "stop_sequence"
                                                                    : "end_turn";
    if (message_["stop_reason"] == "stop_sequence") message_["stop_sequence"] = delta.stop_string;
  }

  // More of the block, or of what it is after the open one.
  void go_on(std::string& events, Block block, const std::string& more) {
    if (!open_ || open_->kind != block.kind || open_->call != block.call) {
      close(events);
      open_ = std::move(block);
      add(events, "content_block_start", {{"index", message_["content"].size()}, {"content_block", block_json()}});
    }
    if (more.empty()) return;
    open_->text += more;
    const auto [type, name] = open_->kind == Kind::thinking ? std::pair("thinking_delta", "thinking")
                              : open_->kind == Kind::text   ? std::pair("text_delta", "text")
                                                            : std::pair("input_json_delta", "partial_json");
    add(events, "content_block_delta", {{"index", message_["content"].size()}, {"delta", {{"type", type}, {name, more}}}});
  }

  void close(std::string& events) {
    if (!open_) return;
    add(events, "content_block_stop", {{"index", message_["content"].size()}});
    message_["content"].push_back(block_json());
    open_.reset();
  }

  void end(std::string& events, const Usage& usage) {
    begin(events, usage);
    close(events);
    message_["usage"] = usage_of(usage);
    add(events, "message_delta",
        {{"delta", {{"stop_reason", message_["stop_reason"]}, {"stop_sequence", message_["stop_sequence"]}}},
         {"usage", message_["usage"]}});
    add(events, "message_stop", Json::object());
  }

  Json block_json() const {
    switch (open_->kind) {
      case Kind::thinking:
        return {{"type", "thinking"}, {"thinking", open_->text}, {"signature", ""}};
      case Kind::text:
        return {{"type", "text"}, {"text", open_->text}};
      default:
        return {{"type", "tool_use"}, {"id", open_->id}, {"name", open_->name}, {"input", input_of(open_->text)}};
    }
  }

  std::vector<std::string> stops_;
  Json message_;  // with the blocks that are whole
  std::optional<Block> open_;
  bool begun_ = false;
};

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
    case 504:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

ChatCompletionFields read_message_request(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  ChatCompletionFields fields = read_prompt(body);
  GenerationFields& generation = fields.generation = read_generation_fields(body, vocab_size);
  body.expect_usual("n", {"1"});
  generation.max_tokens = body.integer("max_tokens", 1, kMostTokens);
  expect(generation.max_tokens.has_value(), body.param("max_tokens"), "is not there");
  if (auto stops = read_stop(body, "stop_sequences")) generation.stop = std::move(stops);
  if (auto format = read_format(body)) generation.format = std::move(format), generation.format_param = "output_config.format";
  generation.prompt_logprobs.reset();
  generation.return_token_ids = false;
  return fields;
}

ChatCompletionFields read_count_tokens(JsonObject object) {
  Fields body(object);
  ChatCompletionFields fields = read_prompt(body);
  fields.generation.model = body.text("model");
  return fields;
}

Json token_count(int64_t prompt_tokens) { return {{"input_tokens", prompt_tokens}}; }

std::unique_ptr<AnswerWriter> messages_writer(AnswerHeader header, const GenerationFields& fields) {
  return std::make_unique<MessagesWriter>(header, fields);
}

Json messages_error(const Failure& failure) {
  return {{"type", "error"}, {"error", {{"type", type_of(failure.status)}, {"message", failure.body["error"]["message"]}}}};
}

}  // namespace tessera::api

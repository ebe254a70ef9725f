#include "api/responses.h"

#include <algorithm>
#include <array>
#include <utility>

#include "api/chat_messages.h"
#include "api/tool_fields.h"
#include "api/turns.h"

namespace tessera::api {
namespace {

constexpr size_t kMostItems = 8192, kMostParts = 1024;

// A text, or parts of these types; each has its text in the field of its type's last word.
std::string read_texts(Fields& item, std::string_view name, std::initializer_list<std::string_view> types) {
  const auto given = item.value(name);
  expect(given.has_value(), item.param(name), "is not there");
  if (const auto text = json_as<std::string_view>(*given)) return std::string(*text);
  expect(json_as<JsonArray>(*given).has_value(), item.param(name), "must be a text or a list of parts");
  std::optional<std::string> all;
  for (Fields& part : item.objects(name, kMostParts)) {
    const std::string type = part.needed_text("type");
    expect(std::find(types.begin(), types.end(), type) != types.end(), part.param("type"), printable(type),
           " is not supported here; only text is");
    add_lines(all, part.needed_text(type == "refusal" ? "refusal" : "text"));
  }
  return all.value_or("");
}

ChatMessage read_message(Fields& item) {
  constexpr std::array kRoles{"system", "developer", "user", "assistant"};
  const auto role = item.text("role");
  expect(role && std::find(kRoles.begin(), kRoles.end(), *role) != kRoles.end(), item.param("role"),
         "must be system, developer, user or assistant");
  return {.role = *role, .content = read_texts(item, "content", {"input_text", "output_text", "refusal"})};
}

// nullopt where all that was thought is encrypted.
std::optional<ChatMessage> read_reasoning(Fields& item) {
  for (const char* name : {"content", "summary"})
    if (item.value(name))
      if (std::string text = read_texts(item, name, {"reasoning_text", "summary_text"}); !text.empty())
        return ChatMessage{.role = "assistant", .reasoning = std::move(text)};
  return std::nullopt;
}

void read_item(Fields& item, std::vector<ChatMessage>& messages) {
  const std::string type = item.text("type").value_or("message");
  if (type == "message") {
    add_turn(messages, read_message(item));
  } else if (type == "reasoning") {
    if (auto thought = read_reasoning(item)) add_turn(messages, *std::move(thought));
  } else if (type == "function_call") {
    add_turn(
        messages,
        {.role = "assistant",
         .tool_calls = {{.id = item.needed_text("call_id"), .name = item.needed_text("name"), .arguments = read_call_arguments(item)}}});
  } else if (type == "function_call_output") {
    add_turn(messages,
             {.role = "tool", .content = read_texts(item, "output", {"input_text"}), .tool_call_id = item.needed_text("call_id")});
  } else {
    refuse(item.param("type"), printable(type), " is not supported; give message, reasoning, function_call or function_call_output");
  }
}

std::vector<ChatMessage> read_turns(Fields& body) {
  std::vector<ChatMessage> messages;
  if (auto instructions = body.text("instructions")) messages.push_back({.role = "system", .content = *std::move(instructions)});
  const size_t before = messages.size();
  const auto input = body.value("input");
  if (const auto text = input ? json_as<std::string_view>(*input) : std::nullopt) {
    messages.push_back({.role = "user", .content = std::string(*text)});
  } else {
    for (Fields& item : body.objects("input", kMostItems)) read_item(item, messages);
    if (messages.size() == before) messages.push_back({.role = "user", .content = ""});  // clients ask so whether there is an answer
  }
  return messages;
}

void read_choice(Fields& body, Tools& tools) {
  const auto given = body.value("tool_choice");
  if (!given) return;
  const std::string param = body.param("tool_choice");
  const auto word = json_as<std::string_view>(*given);
  if (word == "none") return choose(tools, Tools::Choice::none, param);
  if (word == "auto") return choose(tools, Tools::Choice::automatic, param);
  if (word == "required") return choose(tools, Tools::Choice::required, param);
  const auto object = json_as<JsonObject>(*given);
  expect(object.has_value(), param, "must be none, auto, required or {\"type\": \"function\", \"name\"}");
  Fields choice(*object, param + ".");
  expect(choice.text("type") == "function", choice.param("type"), "must be function");
  choose_named(tools, choice.needed_text("name"), choice.param("name"));
}

Tools read_function_tools(Fields& body) {
  Tools tools;
  for (Fields& tool : body.objects("tools", kMostTools)) {
    if (tool.needed_text("type") != "function") continue;
    const auto parameters = tool.object("parameters");
    add_tool(tools,
             {.name = tool.needed_text("name"),
              .description = tool.text("description").value_or(""),
              .parameters = parameters ? simdjson::minify(*parameters) : "",
              .strict = tool.boolean("strict").value_or(false)},
             tool.param("name"));
  }
  read_choice(body, tools);
  tools.parallel = body.boolean("parallel_tool_calls").value_or(true);
  return tools;
}

std::optional<GrammarSource> read_format(Fields& body) {
  const auto text = body.object("text");
  const auto given = text ? Fields(*text, body.param("text") + ".").object("format") : std::nullopt;
  if (!given) return std::nullopt;
  Fields format(*given, body.param("text") + ".format.");
  const std::string type = format.needed_text("type");
  if (type == "text") return std::nullopt;
  if (type == "json_object") return GrammarSource{};
  expect(type == "json_schema", format.param("type"), "must be text, json_object or json_schema");
  return GrammarSource{.kind = GrammarSource::Kind::json_schema,
                       .text = simdjson::minify(format.needed_object("schema")),
                       .strict = format.boolean("strict").value_or(false)};
}

// What asks for something that is not there.
void refuse_others(Fields& body) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) body.expect_usual(name, {});
  body.expect_usual("background", {"false"});
  body.expect_usual("truncation", {"\"disabled\"", "\"auto\""});
  body.expect_usual("n", {"1"});
  expect(body.integer("top_logprobs", 0, kMostTop).value_or(0) == 0, body.param("top_logprobs"), "is not supported; leave it out");
  if (const auto include = body.list("include", kMostParts))
    for (const JsonValue value : *include)
      expect(json_as<std::string_view>(value) != "message.output_text.logprobs", body.param("include"),
             "message.output_text.logprobs is not supported; leave it out");
}

Json usage_of(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json choice_of(const Tools& tools) {
  switch (tools.choice) {
    case Tools::Choice::none:
      return "none";
    case Tools::Choice::required:
      return "required";
    case Tools::Choice::named:
      return {{"type", "function"}, {"name", tools.name}};
    default:
      return "auto";
  }
}

template <class Number>
Json or_null(const std::optional<Number>& number) {
  return number ? Json(*number) : Json();
}

// The object's fields that the request has settled.
Json response_of(const AnswerHeader& header, const ChatCompletionFields& fields) {
  Json tools = Json::array();
  for (const ToolDefinition& tool : fields.tools.definitions)
    tools.push_back({{"type", "function"}, {"name", tool.name}, {"parameters", nullptr}, {"strict", tool.strict}});
  return {{"id", header.id},
          {"object", "response"},
          {"created_at", header.created},
          {"status", "in_progress"},
          {"background", false},
          {"error", nullptr},
          {"incomplete_details", nullptr},
          {"instructions", nullptr},
          {"max_output_tokens", or_null(fields.generation.max_tokens)},
          {"metadata", nullptr},
          {"model", header.model},
          {"output", Json::array()},
          {"parallel_tool_calls", fields.tools.parallel},
          {"previous_response_id", nullptr},
          {"store", false},
          {"temperature", or_null(fields.generation.temperature)},
          {"tool_choice", choice_of(fields.tools)},
          {"tools", std::move(tools)},
          {"top_p", or_null(fields.generation.top_p)},
          {"truncation", "disabled"},
          {"usage", nullptr}};
}

// An item of the output.
struct Item {
  enum class Kind { reasoning, message, function_call };
  Kind kind;
  size_t call = 0;            // a function_call's index
  std::string call_id, name;  // a function_call's
  std::string text = {};      // or the call's arguments
};

class ResponsesWriter : public AnswerWriter {
 public:
  ResponsesWriter(const AnswerHeader& header, const ChatCompletionFields& fields) : response_(response_of(header, fields)) {}

  std::string events(const AnswerDelta& delta, const Usage&) override {
    std::string events;
    say(events, delta);
    return events;
  }
  std::string last_events(const Usage& usage) override {
    std::string events;
    end(events, usage);
    return events;
  }
  std::string error_events(const Failure& failure) const override {
    ResponsesWriter failed = *this;
    std::string events;
    failed.begin(events);
    failed.response_["status"] = "failed";
    failed.response_["error"] = {{"code", failure.status == 429 ? "rate_limit_exceeded" : "server_error"},
                                 {"message", failure.body["error"]["message"]}};
    failed.add(events, "response.failed", {{"response", failed.response_}});
    return events;
  }
  Json body(std::span<const Choice> choices, const Usage& usage) const override {
    ResponsesWriter whole = *this;
    std::string events;
    for (const Choice& choice : choices.first(1)) whole.say(events, whole_delta(choice));
    whole.end(events, usage);
    return whole.response_;
  }

 private:
  void add(std::string& events, std::string_view type, const Json& fields) {
    Json data{{"type", type}, {"sequence_number", sequence_number_++}};
    data.update(fields);
    events += event(data, type);
  }

  void begin(std::string& events) {
    if (sequence_number_ > 0) return;
    add(events, "response.created", {{"response", response_}});
    add(events, "response.in_progress", {{"response", response_}});
  }

  void say(std::string& events, const AnswerDelta& delta) {
    if (!delta.finish_reason.empty()) finish_reason_ = delta.finish_reason;
    if (!delta.reasoning.empty()) go_on(events, {.kind = Item::Kind::reasoning}, delta.reasoning);
    if (!delta.text.empty()) go_on(events, {.kind = Item::Kind::message}, delta.text);
    for (const AnswerDelta::Call& call : delta.calls)
      go_on(events, {.kind = Item::Kind::function_call, .call = call.index, .call_id = call.id, .name = call.name}, call.arguments);
  }

  // More of the item, or of what it is after the open one.
  void go_on(std::string& events, Item item, const std::string& more) {
    if (!open_ || open_->kind != item.kind || open_->call != item.call) {
      close(events, "completed");
      open(events, std::move(item));
    }
    if (more.empty()) return;
    open_->text += more;
    constexpr std::array kTypes{"response.reasoning_text.delta", "response.output_text.delta", "response.function_call_arguments.delta"};
    Json fields = place();
    fields["delta"] = more;
    if (open_->kind == Item::Kind::message) fields["logprobs"] = Json::array();
    add(events, kTypes[static_cast<size_t>(open_->kind)], fields);
  }

  void open(std::string& events, Item item) {
    begin(events);
    open_ = std::move(item);
    add(events, "response.output_item.added", {{"output_index", response_["output"].size()}, {"item", item_json("in_progress", false)}});
    if (open_->kind != Item::Kind::function_call) add_part(events, "response.content_part.added");
  }

  void close(std::string& events, std::string_view status) {
    if (!open_) return;
    constexpr std::array kTypes{"response.reasoning_text.done", "response.output_text.done", "response.function_call_arguments.done"};
    Json fields = place();
    fields[open_->kind == Item::Kind::function_call ? "arguments" : "text"] = open_->text;
    if (open_->kind == Item::Kind::message) fields["logprobs"] = Json::array();
    if (open_->kind == Item::Kind::function_call) fields["name"] = open_->name;
    add(events, kTypes[static_cast<size_t>(open_->kind)], fields);
    if (open_->kind != Item::Kind::function_call) add_part(events, "response.content_part.done", open_->text);
    Json item = item_json(status, true);
    add(events, "response.output_item.done", {{"output_index", response_["output"].size()}, {"item", item}});
    response_["output"].push_back(std::move(item));
    open_.reset();
  }

  void end(std::string& events, const Usage& usage) {
    begin(events);
    const bool is_whole = finish_reason_ != "length";
    if (!open_ && response_["output"].empty()) open(events, {.kind = Item::Kind::message});  // clients look for one
    close(events, is_whole ? "completed" : "incomplete");
    response_["status"] = is_whole ? "completed" : "incomplete";
    if (!is_whole) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response_["usage"] = usage_of(usage);
    add(events, is_whole ? "response.completed" : "response.incomplete", {{"response", response_}});
  }

  void add_part(std::string& events, std::string_view type, const std::string& text = "") {
    Json fields = place();
    fields["part"] = part_json(text);
    add(events, type, fields);
  }

  std::string id() const {
    constexpr std::array kPrefixes{"rs", "msg", "fc"};
    const std::string& response = response_["id"].get_ref<const std::string&>();
    return message(kPrefixes[static_cast<size_t>(open_->kind)], '_', response.substr(response.find('_') + 1), '_',
                   response_["output"].size());
  }

  // Where the open item's text stands.
  Json place() const {
    Json fields{{"item_id", id()}, {"output_index", response_["output"].size()}};
    if (open_->kind != Item::Kind::function_call) fields["content_index"] = 0;
    return fields;
  }

  Json part_json(const std::string& text) const {
    if (open_->kind == Item::Kind::reasoning) return {{"type", "reasoning_text"}, {"text", text}};
    return {{"type", "output_text"}, {"annotations", Json::array()}, {"logprobs", Json::array()}, {"text", text}};
  }

  Json item_json(std::string_view status, bool with_text) const {
    const std::string text = with_text ? open_->text : "";
    Json content = Json::array();
    if (with_text) content.push_back(part_json(text));
    switch (open_->kind) {
      case Item::Kind::reasoning:
        return {{"id", id()}, {"type", "reasoning"}, {"status", status}, {"summary", Json::array()}, {"content", content}};
      case Item::Kind::message:
        return {{"id", id()}, {"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", content}};
      default:
        return {{"id", id()},          {"type", "function_call"}, {"status", status}, {"call_id", open_->call_id},
                {"name", open_->name}, {"arguments", text}};
    }
  }

  Json response_;  // with the items that are whole
  std::optional<Item> open_;
  int64_t sequence_number_ = 0;
  std::string finish_reason_;
};

}  // namespace

ChatCompletionFields read_response(JsonObject object, int64_t vocab_size) {
  Fields body(object);
  refuse_others(body);
  ChatCompletionFields fields{.messages = read_turns(body),
                              .arguments = read_arguments(body),
                              .tools = read_function_tools(body),
                              .generation = read_generation_fields(body, vocab_size)};
  GenerationFields& generation = fields.generation;
  generation.max_tokens = body.integer("max_output_tokens", 1, kMostTokens);
  if (auto format = read_format(body)) generation.format = std::move(format), generation.format_param = "text.format";
  generation.prompt_logprobs.reset();
  generation.return_token_ids = false;
  return fields;
}

std::unique_ptr<AnswerWriter> responses_writer(AnswerHeader header, const ChatCompletionFields& fields) {
  return std::make_unique<ResponsesWriter>(header, fields);
}

}  // namespace tessera::api

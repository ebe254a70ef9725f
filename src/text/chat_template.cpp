#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <ctime>

#include "core/error.h"
#include "text/jinja/characters.h"
#include "text/utf8.h"

namespace tessera {
namespace {

using jinja::Dict;
using jinja::List;
using jinja::Origin;
using jinja::Text;
using jinja::Value;

Value name(std::string_view text) { return Value::text(text, Origin::template_text); }

// A role is a name, and templates build control tokens of it: "<|" + role + "|>".
bool is_role_name(std::string_view role) {
  constexpr size_t kLongest = 32;
  const auto fits = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; };
  return !role.empty() && role.size() <= kLongest && std::all_of(role.begin(), role.end(), fits);
}

// A message as transformers passes it on: without its fields that are null, and with its reasoning under every name that templates read.
Value prepared(const Value& message, size_t index) {
  check(message.dict() != nullptr, "chat: message ", index + 1, " is ", message.type(), "; must be an object with a role and a content");
  std::vector<std::pair<Value, Value>> fields;
  for (const auto& [key, value] : message.dict()->items) {
    if (value.is_none()) continue;
    const bool is_role = key.text() && key.text()->view() == "role" && value.text() && is_role_name(value.text()->view());
    fields.emplace_back(key, is_role ? name(value.text()->view()) : value);
  }
  const auto find = [&](std::string_view key) {
    return std::find_if(fields.begin(), fields.end(),
                        [&](const auto& field) { return field.first.text() && field.first.text()->view() == key; });
  };
  for (const std::string_view key : {"reasoning_content", "thinking", "reasoning"}) {
    const auto found = find(key);
    if (found == fields.end()) continue;
    const Value reasoning = found->second;
    if (find("thinking") == fields.end()) fields.insert(fields.begin(), {name("thinking"), reasoning});
    if (const auto known = find("reasoning_content"); known != fields.end()) {
      known->second = reasoning;
    } else {
      fields.emplace_back(name("reasoning_content"), reasoning);
    }
    break;
  }
  return Value::dict(std::move(fields), true);
}

// What is put behind a content to find its end: a letter, and white space that is lost where the template trims the content.
constexpr Origin kEnd{UINT32_MAX};
constexpr std::string_view kEndText = "x ";

Value with_end(const Value& message) {
  std::vector<std::pair<Value, Value>> fields = message.dict()->items;
  for (auto& [key, value] : fields) {
    if (!key.text() || key.text()->view() != "content" || !value.text()) continue;
    Text content = *value.text();
    content.append(kEndText, kEnd);
    value = Value::text(std::move(content));
    return Value::dict(std::move(fields), true);
  }
  throw std::invalid_argument("chat: the last message has no text that could be continued");
}

Text up_to_end(const Text& text) {
  size_t begin = 0, found = std::string::npos, bytes = 0;
  for (const Text::Run& run : text.runs()) {
    if (run.origin == kEnd) {
      found = begin;
      bytes = run.end - begin;
    }
    begin = run.end;
  }
  check(found != std::string::npos, "chat: the template does not show the last message's content, which is to be continued");
  return text.part(0, bytes == kEndText.size() ? found : jinja::trim_right(text.view().substr(0, found)).size());
}

// The local time, or that of SOURCE_DATE_EPOCH, in UTC, so that a build gives the same text every day.
std::tm local_time() {
  std::tm made{};
  if (const char* fixed = std::getenv("SOURCE_DATE_EPOCH"); fixed && *fixed) {
    const std::string_view text = fixed;
    std::time_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    check(error == std::errc() && end == text.data() + text.size() && gmtime_r(&seconds, &made), "SOURCE_DATE_EPOCH is \"", text,
          "\"; must be the seconds since 1970");
    return made;
  }
  const std::time_t seconds = std::time(nullptr);
  localtime_r(&seconds, &made);
  return made;
}

}  // namespace

Value chat_text(std::string_view text, Origin origin) {
  const size_t invalid = text::find_invalid_utf8(text);
  check(invalid == text.npos, "chat: a text is not valid UTF-8 at byte ", invalid, "; convert it to UTF-8");
  return Value::text(text, origin);
}

Value chat_message(std::string_view role, std::string_view content, Origin origin) {
  return Value::dict({{name("role"), chat_text(role, Origin::person)}, {name("content"), chat_text(content, origin)}}, true);
}

ChatTemplate::ChatTemplate(std::string_view source, std::string name, std::vector<std::pair<std::string, std::string>> special_tokens)
    : template_(jinja::Template::compile(source, std::move(name))), special_tokens_(std::move(special_tokens)) {}

Text ChatTemplate::render(const ChatRequest& request) const {
  const List* messages = request.messages.list();
  check(messages != nullptr, "chat: the messages are ", request.messages.type(), "; must be a list");
  check(!messages->items.empty(), "chat: there is no message; give one at least");
  std::vector<Value> all;
  for (const Value& message : messages->items) all.push_back(prepared(message, all.size()));
  if (request.continue_final_message) all.back() = with_end(all.back());
  jinja::Template::Variables variables{{"messages", Value::list(std::move(all), true)},
                                       {"tools", request.tools},
                                       {"documents", Value::none()},
                                       {"add_generation_prompt", Value(request.add_generation_prompt && !request.continue_final_message)}};
  const auto set = [&](const std::string& key, const Value& value) {
    for (auto& [known, old] : variables)
      if (known == key) return void(old = value);
    variables.emplace_back(key, value);
  };
  for (const auto& [key, token] : special_tokens_) set(key, ::tessera::name(token));
  for (const auto& [key, value] : request.arguments) set(key, value);
  Text text = template_.render(variables, local_time(), request.limits);
  return request.continue_final_message ? up_to_end(text) : text;
}

std::vector<bool> ChatTemplate::control_tokens(const Tokenizer& tokenizer) const { return tokenizer.control_tokens(template_.literals()); }

bool ChatTemplate::holds(std::string_view text) const {
  const std::vector<std::string_view> literals = template_.literals();
  return std::any_of(literals.begin(), literals.end(), [&](std::string_view literal) { return literal.find(text) != literal.npos; });
}

std::vector<std::string> ChatTemplate::roles() const {
  constexpr std::array<std::string_view, 9> kKnown{"system", "developer", "user",    "assistant",  "model",
                                                   "tool",   "function",  "ipython", "observation"};
  std::vector<std::string> roles;
  for (const std::string_view text : template_.literals())
    if (std::find(kKnown.begin(), kKnown.end(), text) != kKnown.end() && std::find(roles.begin(), roles.end(), text) == roles.end())
      roles.emplace_back(text);
  return roles;
}

namespace {

// Bytes [begin, end) of a rendered text that are an answer's.
struct Place {
  size_t begin, end, answer;
};

std::vector<TokenId> encode_part(const Tokenizer& tokenizer, const std::vector<bool>& control_tokens, const Text& text, size_t begin,
                                 size_t end) {
  const Text part = text.part(begin, end);
  std::vector<TextSpan> spans;
  size_t from = 0;
  for (const Text::Run& run : part.runs()) {
    spans.push_back({part.view().substr(from, run.end - from), run.origin == Origin::template_text});
    from = run.end;
  }
  return tokenizer.encode(spans, false, control_tokens);
}

// Where answers stand whole.
std::vector<Place> places_of(const Text& text, std::span<const ChatAnswer> answers) {
  std::vector<Place> places;
  size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    for (size_t answer = 0; answer < answers.size(); ++answer)
      if (run.origin == jinja::answer_origin(answer) && !answers[answer].ids.empty() &&
          text.view().substr(begin, run.end - begin) == answers[answer].text)
        places.push_back({begin, run.end, answer});
    begin = run.end;
  }
  return places;
}

}  // namespace

std::vector<TokenId> encode(const Tokenizer& tokenizer, const std::vector<bool>& control_tokens, const Text& text,
                            std::span<const ChatAnswer> answers) {
  std::vector<Place> places = places_of(text, answers);
  const auto end_of_part = [&](size_t place) { return place + 1 < places.size() ? places[place + 1].begin : text.size(); };
  // Behind a control token the rest is encoded as it would be in the whole.
  for (size_t place = places.size(); place-- > 0;) {
    const std::vector<TokenId> behind = encode_part(tokenizer, control_tokens, text, places[place].end, end_of_part(place));
    if (behind.empty() || !control_tokens[behind[0]]) places.erase(places.begin() + place);
  }
  std::vector<TokenId> ids = encode_part(tokenizer, control_tokens, text, 0, places.empty() ? text.size() : places[0].begin);
  for (size_t place = 0; place < places.size(); ++place) {
    const std::vector<TokenId>& answer = answers[places[place].answer].ids;
    const std::vector<TokenId> behind = encode_part(tokenizer, control_tokens, text, places[place].end, end_of_part(place));
    ids.insert(ids.end(), answer.begin(), answer.end());
    ids.insert(ids.end(), behind.begin(), behind.end());
  }
  return ids;
}

std::optional<TokenId> end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer, const std::vector<bool>& control_tokens) {
  const ChatRequest request{
      .messages = Value::list({chat_message("user", "x", Origin::person), chat_message("assistant", "x", jinja::answer_origin(0))}, true),
      .add_generation_prompt = false};
  Text text;
  try {
    text = chat.render(request);
  } catch (const std::invalid_argument&) {
    return std::nullopt;
  }
  size_t end = 0, begin = 0;
  for (const Text::Run& run : text.runs()) {
    if (run.origin == jinja::answer_origin(0)) begin = run.end;
    end = run.end;
  }
  if (begin == 0) return std::nullopt;
  const std::vector<TokenId> behind = encode_part(tokenizer, control_tokens, text, begin, end);
  const auto control = std::find_if(behind.begin(), behind.end(), [&](TokenId id) { return control_tokens[id]; });
  return control == behind.end() ? std::nullopt : std::optional(*control);
}

}  // namespace tessera

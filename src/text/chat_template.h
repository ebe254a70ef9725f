#pragma once
// Conversations as the models were trained on them: a checkpoint's chat template, run as transformers' apply_chat_template runs it. The
// template is data with limits, and text from people never becomes control tokens.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/types.h"
#include "text/jinja/template.h"
#include "text/tokenizer.h"

namespace tessera {

using ChatArguments = std::vector<std::pair<std::string, jinja::Value>>;

// What a template is rendered with.
struct ChatRequest {
  jinja::Value messages;                      // a list of dicts: role, content, tool_calls, reasoning_content ...
  jinja::Value tools = jinja::Value::none();  // a list of JSON schemas
  ChatArguments arguments;                    // others that the template knows: enable_thinking
  bool add_generation_prompt = true;          // the text ends with what begins an answer
  bool continue_final_message = false;        // or else with the last message's content: an answer goes on from it
  jinja::Limits limits = {};
};

// A text of a person's, or of a model's when its answer's origin is given. Throws std::invalid_argument if it is not valid UTF-8.
jinja::Value chat_text(std::string_view text, jinja::Origin origin);
jinja::Value chat_message(std::string_view role, std::string_view content, jinja::Origin origin);

class ChatTemplate {
 public:
  // `name` begins every message. `special_tokens` are what the template sees beside the request: bos_token, eos_token and so on, as
  // tokenizer_config.json has them. Throws FileError for a template that is malformed or needs what is not supported.
  ChatTemplate(std::string_view source, std::string name, std::vector<std::pair<std::string, std::string>> special_tokens);

  // A conversation's text. What people wrote is known in it: everything of the request but the names of the roles. Throws
  // std::invalid_argument for messages that are no list of dicts, for what the template cannot do with them, and where it does not show
  // the content that is to be continued;
  // jinja::RaisedException, with the template's own words, where it refuses them.
  jinja::Text render(const ChatRequest& request) const;

  // Which of the tokenizer's tokens are found in the template's own text only: the special tokens, and added tokens that stand in the
  // template's source and are not all white space. By id.
  std::vector<bool> control_tokens(const Tokenizer& tokenizer) const;

  // Of the names that roles usually have, those that stand as texts in the template, in its order.
  std::vector<std::string> roles() const;
  bool takes_tools() const { return template_.names("tools"); }
  // Whether a text stands in one of the template's.
  bool holds(std::string_view text) const;

 private:
  jinja::Template template_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
};

// What a model answered, in a conversation whose text has it by jinja::answer_origin of its index: the ids that made the text.
struct ChatAnswer {
  std::string text;
  std::vector<TokenId> ids;
};

// The ids of a rendered text. All of it is pre-tokenised as one, but for answers that stand in it as they were given, with a control token
// behind them: those keep their ids, so that a model's cache of them holds, and the text around them is encoded.
std::vector<TokenId> encode(const Tokenizer& tokenizer, const std::vector<bool>& control_tokens, const jinja::Text& text,
                            std::span<const ChatAnswer> answers);

// The token by which the template ends an assistant's turn; nothing where it writes none, or refuses a conversation of two messages.
std::optional<TokenId> end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer, const std::vector<bool>& control_tokens);

}  // namespace tessera

#pragma once
// Conversations as the models were trained on them. The families are written out here rather than run from a checkpoint's Jinja text: a
// file from elsewhere is data, never a program, and text from people never becomes control tokens.
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "text/tokenizer.h"

namespace tessera {

enum class ChatRole { system, user, assistant };

struct ChatMessage {
  ChatRole role;
  std::string content;  // UTF-8
};

class ChatTemplate {
 public:
  enum class Family {
    gemma,   // <start_of_turn>user\n...<end_of_turn>\n; a system message goes before the first user's
    phi3,    // <|user|>\n...<|end|>\n
    chatml,  // <|im_start|>user\n...<|im_end|>\n
  };

  // The family that the checkpoint's own template is of, or, without one, whose control tokens the tokenizer has. `name` (gemma, phi3,
  // chatml) settles it. Throws FileError for a template or a tokenizer of none of these, std::invalid_argument for another name or one
  // whose tokens the tokenizer lacks.
  static ChatTemplate choose(const std::optional<std::string>& jinja, const Tokenizer& tokenizer, const std::optional<std::string>& name);

  Family family() const { return family_; }
  std::string_view name() const;

  // The token ids of a conversation with the tokens that begin it, and with those that begin the assistant's answer when asked for. What
  // people wrote gives no control token, whatever it says. Throws std::invalid_argument for an order of roles that the family has not.
  std::vector<TokenId> encode(const Tokenizer& tokenizer, std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  // The ids that follow an assistant's answer: the end of its turn, the user's message, the beginning of the next answer. Behind the
  // conversation's ids so far they are what encode gives for the whole.
  std::vector<TokenId> encode_reply(const Tokenizer& tokenizer, std::string_view user) const;

  // The text that encode gives the ids of.
  std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  struct Piece {
    std::string text;
    bool control;  // the template's own text
  };
  ChatTemplate(Family family, std::string default_system) : family_(family), default_system_(std::move(default_system)) {}
  std::vector<Piece> pieces(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  std::vector<Piece> gemma(std::span<const ChatMessage> messages, bool add_generation_prompt) const;
  std::vector<TokenId> encode_pieces(const Tokenizer& tokenizer, const std::vector<Piece>& pieces) const;

  Family family_;
  std::string default_system_;  // of a ChatML template that has one: used when the conversation begins without a system message
};

}  // namespace tessera

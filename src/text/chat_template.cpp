#include "text/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "text/utf8.h"

namespace tessera {
namespace {

using Family = ChatTemplate::Family;

struct Known {
  Family family;
  std::string_view name, begin, end;  // a control token that begins a turn, and the one that ends it
};

constexpr std::array kFamilies{Known{Family::gemma, "gemma", "<start_of_turn>", "<end_of_turn>"},
                               Known{Family::phi3, "phi3", "<|user|>", "<|end|>"},
                               Known{Family::chatml, "chatml", "<|im_start|>", "<|im_end|>"}};

constexpr std::string_view kNames = "gemma, phi3, chatml";

bool fits(const Known& known, const Tokenizer& tokenizer) { return tokenizer.token_to_id(known.begin) && tokenizer.token_to_id(known.end); }

std::string_view role_name(ChatRole role) { return role == ChatRole::system ? "system" : role == ChatRole::user ? "user" : "assistant"; }

// A ChatML template may bring a system message of its own: what stands between these in its text.
std::string default_system(std::string_view jinja) {
  constexpr std::string_view kBegin = "<|im_start|>system\\n", kBeginRaw = "<|im_start|>system\n", kEnd = "<|im_end|>";
  for (std::string_view begin : {kBegin, kBeginRaw})
    if (const size_t found = jinja.find(begin); found != jinja.npos) {
      const std::string_view rest = jinja.substr(found + begin.size());
      const std::string_view text = rest.substr(0, rest.find(kEnd));
      if (text.size() < rest.size() && text.find_first_of("'\"{}\\") == text.npos) return std::string(text);
    }
  return "";
}

// As Jinja's trim filter, which is Python's str.strip.
std::string trim(std::string_view content) {
  size_t begin = content.size(), end = begin;
  for (size_t at = 0; at < content.size();) {
    const text::Utf8Character c = text::first_character(content.substr(at));
    const bool blank = text::is_white_space(c.code_point) || (c.code_point >= 0x1C && c.code_point <= 0x1F);
    if (!blank) begin = std::min(begin, at), end = at + c.bytes;
    at += c.bytes;
  }
  return std::string(content.substr(begin, end - begin));
}

}  // namespace

ChatTemplate ChatTemplate::choose(const std::optional<std::string>& jinja, const Tokenizer& tokenizer,
                                  const std::optional<std::string>& name) {
  if (name) {
    for (const Known& known : kFamilies)
      if (known.name == *name) {
        check(fits(known, tokenizer), "template ", *name, ": the tokenizer has no ", known.begin, " and ", known.end);
        return {known.family, ""};
      }
    fail("template '", *name, "' is unknown; choose one of ", kNames);
  }
  for (const Known& known : kFamilies) {
    const bool found = jinja ? jinja->find(known.end) != std::string::npos &&
                                   jinja->find(known.family == Family::phi3 ? "<|" : known.begin) != std::string::npos
                             : true;
    if (found && fits(known, tokenizer)) return {known.family, jinja && known.family == Family::chatml ? default_system(*jinja) : ""};
  }
  fail<FileError>(jinja ? "the checkpoint's chat template is of no known family"
                        : "the checkpoint has no chat template and no known control tokens; is it a base model?",
                  " Name one with --template (", kNames, ")");
}

std::string_view ChatTemplate::name() const { return kFamilies[static_cast<size_t>(family_)].name; }

std::vector<ChatTemplate::Piece> ChatTemplate::gemma(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  std::string system;
  if (!messages.empty() && messages.front().role == ChatRole::system) {
    system = messages.front().content + "\n\n";
    messages = messages.subspan(1);
  }
  std::vector<Piece> pieces{{"<bos>", true}};
  for (size_t i = 0; i < messages.size(); ++i) {
    check((messages[i].role == ChatRole::user) == (i % 2 == 0) && messages[i].role != ChatRole::system, "chat: message ", i + 1, " is the ",
          role_name(messages[i].role), "'s; user and assistant take turns, the user first");
    pieces.push_back({messages[i].role == ChatRole::user ? "<start_of_turn>user\n" : "<start_of_turn>model\n", true});
    pieces.push_back({std::exchange(system, "") + trim(messages[i].content), false});
    pieces.push_back({"<end_of_turn>\n", true});
  }
  if (add_generation_prompt) pieces.push_back({"<start_of_turn>model\n", true});
  return pieces;
}

std::vector<ChatTemplate::Piece> ChatTemplate::pieces(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  if (family_ == Family::gemma) return gemma(messages, add_generation_prompt);
  std::vector<Piece> pieces;
  const auto add = [&](ChatRole role, const std::string& content) {
    const std::string_view name = role_name(role);
    pieces.push_back({family_ == Family::phi3 ? message("<|", name, "|>\n") : message("<|im_start|>", name, "\n"), true});
    pieces.push_back({content, false});
    pieces.push_back({family_ == Family::phi3 ? "<|end|>\n" : "<|im_end|>\n", true});
  };
  if (!default_system_.empty() && (messages.empty() || messages.front().role != ChatRole::system)) add(ChatRole::system, default_system_);
  for (const ChatMessage& m : messages) add(m.role, m.content);
  if (add_generation_prompt) pieces.push_back({family_ == Family::phi3 ? "<|assistant|>\n" : "<|im_start|>assistant\n", true});
  if (!add_generation_prompt && family_ == Family::phi3) pieces.push_back({"<|endoftext|>", true});
  return pieces;
}

std::vector<TokenId> ChatTemplate::encode_pieces(const Tokenizer& tokenizer, const std::vector<Piece>& pieces) const {
  std::vector<TextSpan> spans;
  for (const Piece& piece : pieces) spans.push_back({piece.text, piece.control});
  return tokenizer.encode(spans, false);
}

std::vector<TokenId> ChatTemplate::encode(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                                          bool add_generation_prompt) const {
  return encode_pieces(tokenizer, pieces(messages, add_generation_prompt));
}

std::vector<TokenId> ChatTemplate::encode_reply(const Tokenizer& tokenizer, std::string_view user) const {
  const std::string end(kFamilies[static_cast<size_t>(family_)].end);
  const ChatMessage turn{ChatRole::user, std::string(user)};
  std::vector<Piece> all = ChatTemplate(family_, "").pieces(std::span(&turn, 1), true);
  if (family_ == Family::gemma) all.erase(all.begin());  // <bos>
  all.insert(all.begin(), {end + "\n", true});
  return encode_pieces(tokenizer, all);
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
  std::string text;
  for (const Piece& piece : pieces(messages, add_generation_prompt)) text += piece.text;
  return text;
}

}  // namespace tessera

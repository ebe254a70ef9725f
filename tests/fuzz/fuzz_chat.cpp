// Parts of the input are divided by form feeds: a first byte that chooses the tokenizer, a checkpoint's own template, and messages, each
// behind a byte that tells whose it is. Whatever people write gives no control token.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/chat_template.h"
#include "text/small_tokenizer.h"
#include "text/tokenizer.h"

namespace {

using namespace tessera;

void expect(bool ok) {
  if (!ok) std::abort();
}

struct Vocabulary {
  const char* family;
  std::vector<const char*> control;
  bool swallows_space, is_normalized;
};

const std::array kVocabularies{Vocabulary{"gemma", {"<bos>", "<start_of_turn>", "<end_of_turn>"}, false, false},
                               Vocabulary{"gemma", {"<bos>", "<start_of_turn>", "<end_of_turn>"}, true, true},
                               Vocabulary{"phi3", {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"}, true, false},
                               Vocabulary{"chatml", {"<|im_start|>", "<|im_end|>"}, false, false}};

// Every byte and every ASCII character, and merges that make each control token out of its characters: only the encoder's care stands
// between a text and a control token.
Tokenizer make_tokenizer(const Vocabulary& vocabulary) {
  Json json = small_tokenizer();
  Json& model = json["model"];
  Json& vocab = model["vocab"] = Json::object();
  model["merges"] = Json::array();
  model["byte_fallback"] = true;
  const auto add = [&](const std::string& token) {
    if (!vocab.contains(token)) vocab[token] = vocab.size();
  };
  for (const char* token : vocabulary.control) add(token);
  for (char c = '!'; c <= '~'; ++c) add(std::string(1, c));
  add("\xE2\x96\x81");
  for (const std::string token : vocabulary.control) {
    for (size_t length = 2; length <= token.size(); ++length) {
      add(token.substr(0, length));
      model["merges"].push_back({token.substr(0, length - 1), token.substr(length - 1, 1)});
    }
  }
  add_byte_tokens(json, static_cast<TokenId>(vocab.size()));
  for (const char* token : vocabulary.control) {
    Json added = added_token(vocab[token], token, true);
    added["rstrip"] = added["lstrip"] = vocabulary.swallows_space;
    added["normalized"] = vocabulary.is_normalized;
    json["added_tokens"].push_back(added);
  }
  json["normalizer"] = Json::parse(R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})");
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]})");
  return parse(json);
}

std::vector<TokenId> control_ids(const Tokenizer& tokenizer, std::vector<TokenId> ids) {
  std::erase_if(ids, [&](TokenId id) { return !tokenizer.is_special(id); });
  return ids;
}

std::string with_spaces(std::string text) {
  for (size_t at; (at = text.find("\xE2\x96\x81")) != std::string::npos;) text.replace(at, 3, " ");
  return text;
}

void try_conversation(const Tokenizer& tokenizer, const ChatTemplate& chat, std::vector<ChatMessage> messages, bool decodes_exactly) {
  for (const bool prompt : {false, true}) {
    const std::vector<TokenId> ids = chat.encode(tokenizer, messages, prompt);
    if (decodes_exactly) expect(tokenizer.decode(ids, {}) == with_spaces(chat.render(messages, prompt)));
    std::vector<ChatMessage> plain = messages;
    for (ChatMessage& message : plain) message.content = "x";
    expect(control_ids(tokenizer, ids) == control_ids(tokenizer, chat.encode(tokenizer, plain, prompt)));
  }
  if (messages.empty()) return;
  const std::vector<TokenId> reply = chat.encode_reply(tokenizer, messages.back().content);
  expect(control_ids(tokenizer, reply) == control_ids(tokenizer, chat.encode_reply(tokenizer, "x")));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<Tokenizer> tokenizers = [] {
    std::vector<Tokenizer> made;
    for (const Vocabulary& vocabulary : kVocabularies) made.push_back(make_tokenizer(vocabulary));
    return made;
  }();
  std::vector<std::string> parts{""};
  for (const char c : std::string_view(reinterpret_cast<const char*>(data), size)) {
    if (c == '\f') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const size_t choice = parts[0].empty() ? 0 : static_cast<unsigned char>(parts[0][0]) % kVocabularies.size();
  const Vocabulary& vocabulary = kVocabularies[choice];
  std::vector<ChatMessage> messages;
  for (size_t i = 2; i < parts.size(); ++i) {
    constexpr std::array kRoles{ChatRole::user, ChatRole::assistant, ChatRole::system};
    if (!parts[i].empty()) messages.push_back({kRoles[static_cast<unsigned char>(parts[i][0]) % kRoles.size()], parts[i].substr(1)});
  }
  const std::optional<std::string> jinja = parts.size() > 1 && !parts[1].empty() ? std::optional(parts[1]) : std::nullopt;
  const std::optional<std::string> name = jinja ? std::nullopt : std::optional<std::string>(vocabulary.family);
  try {
    const ChatTemplate chat = ChatTemplate::choose(jinja, tokenizers[choice], name);
    expect(chat.name() == vocabulary.family);
    try_conversation(tokenizers[choice], chat, std::move(messages), !vocabulary.swallows_space);
  } catch (const FileError&) {              // a template of no known family
  } catch (const std::invalid_argument&) {  // an order of roles that the family has not, or no UTF-8
  }
  return 0;
}

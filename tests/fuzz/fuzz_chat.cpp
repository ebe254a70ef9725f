// Parts of the input are divided by form feeds: a first byte that chooses the tokenizer, a checkpoint's chat template, and messages, each
// behind a byte that tells whose it is. Whatever the template does ends, and whatever people write gives no control token.
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
  std::vector<const char*> control;
  bool swallows_space, is_normalized;
};

const std::array kVocabularies{Vocabulary{{"<bos>", "<start_of_turn>", "<end_of_turn>"}, false, false},
                               Vocabulary{{"<bos>", "<start_of_turn>", "<end_of_turn>"}, true, true},
                               Vocabulary{{"<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"}, true, false},
                               Vocabulary{{"<|im_start|>", "<|im_end|>"}, false, false}};

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

struct Said {
  std::string role, content;
};

// The ids of what the template makes of the messages; all control tokens are to stand in its own text.
void try_conversation(const Tokenizer& tokenizer, const ChatTemplate& chat, const std::vector<Said>& said, bool decodes_exactly) {
  const jinja::Limits limits{.steps = 100'000, .output_bytes = size_t{1} << 18, .value_bytes = size_t{1} << 20};
  std::vector<jinja::Value> messages;
  std::vector<ChatAnswer> answers;
  for (const Said& turn : said) {
    const bool is_answer = turn.role == "assistant";
    messages.push_back(chat_message(turn.role, turn.content, is_answer ? jinja::answer_origin(answers.size()) : jinja::Origin::person));
    if (is_answer) answers.push_back({turn.content, tokenizer.encode(turn.content, {})});
  }
  const jinja::Text text = chat.render({.messages = jinja::Value::list(std::move(messages), true), .limits = limits});
  const std::vector<bool> controls = chat.control_tokens(tokenizer);
  const std::vector<TokenId> ids = encode(tokenizer, controls, text, answers);
  if (decodes_exactly) expect(tokenizer.decode(ids, {}) == with_spaces(text.bytes()));
  std::string own;  // what the template wrote, with a character that is in no control token for each part that people did
  size_t begin = 0;
  for (const jinja::Text::Run& run : text.runs()) {
    own += run.origin == jinja::Origin::template_text ? text.bytes().substr(begin, run.end - begin) : "\x01";
    begin = run.end;
  }
  expect(control_ids(tokenizer, ids) == control_ids(tokenizer, tokenizer.encode(own, {.parse_special = true})));
  encode(tokenizer, controls, text, {});
  end_of_turn(chat, tokenizer, controls);
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
  std::vector<Said> said;
  for (size_t i = 2; i < parts.size(); ++i) {
    constexpr std::array kRoles{"user", "assistant", "system", "<|user|>"};
    if (!parts[i].empty()) said.push_back({kRoles[static_cast<unsigned char>(parts[i][0]) % kRoles.size()], parts[i].substr(1)});
  }
  try {
    const ChatTemplate chat(parts.size() > 1 ? parts[1] : "", "template", {{"bos_token", "<bos>"}});
    try_conversation(tokenizers[choice], chat, said, !kVocabularies[choice].swallows_space);
  } catch (const FileError&) {              // a template that is malformed or not supported
  } catch (const std::invalid_argument&) {  // what it cannot do with the conversation, or no UTF-8
  }
  return 0;
}

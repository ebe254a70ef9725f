#include "cli/prompt.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <sstream>

#include "core/error.h"
#include "core/json.h"

namespace tessera {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;

// Token ids as a JSON list, or with blanks between them.
std::vector<TokenId> read_ids(const std::string& path, int64_t vocab_size) {
  std::string text = read_file(path, kMaxPromptBytes);
  for (char& c : text)
    if (c == '[' || c == ']' || c == ',') c = ' ';
  std::istringstream stream(text);
  std::vector<TokenId> ids;
  for (std::string word; stream >> word;) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    check(error == std::errc() && end == word.data() + word.size(), path, ": ", printable(word), " is not a token id");
    check(id >= 0 && id < vocab_size, path, ": token id ", id, " is outside the vocabulary of ", vocab_size);
    ids.push_back(static_cast<TokenId>(id));
  }
  check(!ids.empty(), path, ": holds no token ids");
  return ids;
}

}  // namespace

CLI::Option_group& add_prompt_flags(CLI::App& command, PromptFlags& flags) {
  CLI::Option_group& group = *command.add_option_group("prompt");
  group.add_option("-p,--prompt", flags.text, "The prompt, raw: no chat template; control tokens in it count")->type_name("TEXT");
  group.add_option("-f,--file", flags.file, "A file with the prompt")->type_name("FILE");
  group.add_option("--ids-file", flags.ids_file, "A file with the prompt's token ids: a JSON list, or blanks between them")
      ->type_name("FILE");
  return group;
}

std::string prompt_text(const PromptFlags& flags) { return flags.text ? *flags.text : read_file(*flags.file, kMaxPromptBytes); }

std::vector<TokenId> prompt_ids(const PromptFlags& flags, Session& session) {
  if (flags.ids_file) return read_ids(*flags.ids_file, session.model().spec().vocab_size);
  std::vector<TokenId> ids = session.tokenizer().encode(prompt_text(flags), {.add_special_tokens = true, .parse_special = true});
  check(!ids.empty(), "the prompt is empty: give it at least one character");
  return ids;
}

}  // namespace tessera

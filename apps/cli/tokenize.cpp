#include <CLI/CLI.hpp>
#include <sstream>

#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/report.h"
#include "cli/terminal.h"

namespace tessera {
namespace {

// `tessera tokenize`: the tokens that a model is given for a text, from the tokenizer alone.
struct TokenizeOptions {
  std::string model;
  std::optional<std::string> revision, json;
  PromptFlags prompt;
  ChatFlags chat_flags;
  bool chat = false, ids = false;
};

std::vector<TokenId> ids_of(const TokenizeOptions& options, const Checkpoint& checkpoint, const Tokenizer& tokenizer) {
  if (options.prompt.ids_file) return read_ids(*options.prompt.ids_file, tokenizer.vocab_size());
  const std::string text = prompt_text(options.prompt);
  if (!options.chat) return tokenizer.encode(text, {.add_special_tokens = true, .parse_special = true});
  Conversation conversation(checkpoint, tokenizer, conversation_options(options.chat_flags));
  conversation.add("user", text);
  return conversation.ids();
}

int tokenize(const TokenizeOptions& options) {
  const SignalWatch watch;
  Report report(options.json);
  const Checkpoint checkpoint = Checkpoint::open(options.model, options.revision);
  const Tokenizer tokenizer = Tokenizer::load(checkpoint.tokenizer().string(), std::nullopt, checkpoint.model_type());
  const std::vector<TokenId> ids = ids_of(options, checkpoint, tokenizer);
  std::ostringstream text;
  auto tokens = nlohmann::ordered_json::array();
  for (const TokenId id : ids) {
    const std::string piece(tokenizer.id_to_token(id));
    tokens.push_back({{"id", id}, {"piece", piece}});
    if (options.ids)
      text << (tokens.size() > 1 ? " " : "") << id;
    else
      text << format("%8lld  ", static_cast<long long>(id)) << one_line(piece) << '\n';
  }
  report.print(text.str() + (options.ids ? "\n" : ""));
  report.set({{"command", "tokenize"},
              {"model", options.model},
              {"count", ids.size()},
              {"tokens", tokens},
              {"text", tokenizer.decode(ids, {.skip_special = false})}});
  report.finish();
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("tokenize", "Show the tokens of a text, or the text of tokens");
  const auto options = std::make_shared<TokenizeOptions>();
  command.callback([options, &code] { code = tokenize(*options); });
  add_checkpoint_flags(command, options->model, options->revision);
  CLI::Option_group& source = add_prompt_flags(command, options->prompt);
  source.require_option(1);
  CLI::Option* chat = command.add_flag("--chat", options->chat, "The text is one turn of a chat: put it into the checkpoint's template")
                          ->excludes(source.get_option("--ids-file"));
  add_chat_flags(command, options->chat_flags, chat);
  command.add_flag("--ids", options->ids, "Print the ids alone, as --ids-file reads them");
  add_json_flag(command, options->json);
}

}  // namespace tessera

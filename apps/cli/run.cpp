#include "cli/run.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <sstream>

#include "cli/signals.h"
#include "core/error.h"
#include "core/json.h"
#include "text/chat_template.h"

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

std::vector<TokenId> prompt_ids(const RunOptions& options, Session& session) {
  if (options.ids_file) return read_ids(*options.ids_file, session.model().vocab_size());
  const std::string text = options.prompt ? *options.prompt : read_file(*options.prompt_file, kMaxPromptBytes);
  if (!options.chat) {
    std::vector<TokenId> ids = session.tokenizer().encode(text, {.add_special_tokens = true, .parse_special = true});
    check(!ids.empty(), "the prompt is empty: give -p at least one character");
    return ids;
  }
  const ChatTemplate chat = ChatTemplate::choose(session.checkpoint().chat_template(), session.tokenizer(), options.chat_template);
  std::vector<ChatMessage> messages;
  if (options.system) messages.push_back({ChatRole::system, *options.system});
  messages.push_back({ChatRole::user, text});
  return chat.encode(session.tokenizer(), messages, true);
}

}  // namespace

void add_run(CLI::App& app, RunOptions& options) {
  CLI::App& command = *app.add_subcommand("run", "Continue a prompt and stream the text");
  add_model_flags(command, options.model);
  CLI::Option_group& source = *command.add_option_group("Prompt");
  source.add_option("-p,--prompt", options.prompt, "The prompt, raw: no chat template; control tokens in it count")->type_name("TEXT");
  source.add_option("-f,--file", options.prompt_file, "A file with the prompt")->type_name("FILE");
  CLI::Option* ids = source.add_option("--ids-file", options.ids_file, "A file with the prompt's token ids: a JSON list, or blanks between them")->type_name("FILE");
  source.require_option(1);
  CLI::Option* chat = command.add_flag("--chat", options.chat, "The prompt is one turn of a chat: put it into the checkpoint's template")->excludes(ids);
  command.add_option("--system", options.system, "The chat's system message")->needs(chat)->type_name("TEXT");
  command.add_option("--template", options.chat_template, "The chat's template if the checkpoint has none known: gemma, phi3 or chatml")->needs(chat)->type_name("NAME");
  command.add_option("-n,--predict", options.stream.new_tokens, "New tokens at most; to an end token or the context's end if not given")->check(CLI::NonNegativeNumber);
  command.add_option("--stop", options.stream.stop, "Stop before this text; may be given several times")->type_name("TEXT")->take_all();
  command.add_flag("--print-ids", options.stream.print_ids, "Print the new tokens' ids instead of text");
  command.add_option("--logits", options.stream.logits_file, "Write the logits of the prompt's rows, float32 [rows, vocabulary], as .npy")->type_name("FILE");
  add_sampling_flags(command, options.sampling);
}

int run(const RunOptions& options) {
  const SignalWatch watch;
  Session session(options.model);
  const SamplingParams params = sampling_params(options.sampling, session.generation(), session.model().vocab_size());
  const auto sequence = session.cache().create();
  sequence->tokens = prompt_ids(options, session);
  Sampler sampler(params, session.generation().tokens.eos);
  const StreamResult result = stream(session, *sequence, sampler, sequence->tokens.size(), options.stream);
  print_timing(session, result, params);
  SignalWatch::expect_none();
  return 0;
}

}  // namespace tessera

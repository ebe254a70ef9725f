#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/arguments.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/given_text.h"
#include "cli/line_editor.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/output_file.h"

namespace tessera {
namespace {

// `tessera chat`: a conversation on the terminal. The cache is kept between turns: only what is new is computed.
struct ChatOptions {
  ModelFlags model;
  SamplingFlags sampling;
  SpeculationFlags speculation;
  StreamOptions stream;
  ChatFlags chat;
  std::optional<std::string> session;
  bool show_timings = false;
};

// Bytes of pages that are written between two turns: more are written at the end, and computed again if that never comes.
constexpr size_t kQuicklyWritten = size_t{64} << 20;

constexpr const char* kHelp =
    "/help        this list\n"
    "/reset       begin a new conversation\n"
    "/save FILE   write the conversation as JSON\n"
    "/quit        leave (so does Ctrl-D)\n"
    "A line that ends with \\ goes on in the next. Ctrl-C stops an answer; at the prompt it leaves.\n";

// The conversation on the screen, and the cache of it.
class Chat {
 public:
  Chat(const ChatOptions& options, Session& session)
      : options_(options),
        session_(session),
        conversation_(session.checkpoint(), session.tokenizer(), conversation_options(options.chat)),
        params_(sampling_params(options.sampling, session.generation(), session.model().spec().vocab_size)),
        sampler_(params_, conversation_.end_tokens(session)),
        drafting_(open_drafting(options.speculation, options.model, session, sampler_)),
        sequence_(session.cache().create()) {}

  // Goes on with the conversation of the session's file.
  void go_on(const SavedSequence& saved) {
    const std::string& path = *options_.session;
    conversation_.restore(saved.about(), path);
    const std::string why = saved.restore(*session_.device(), session_.cache(), *sequence_, session_.pages_identity());
    if (!why.empty() && !saved.tokens().empty())
      tell(message("note: ", path, ": its pages ", why, "; its ", saved.tokens().size(), " tokens are computed again"));
  }

  // Writes the session's file, if there is one and it is not up to date; `least`: more pages than are quickly written may be left out.
  void keep(SavedPages least) {
    if (!options_.session || kept_ == SavedPages::all || (kept_ && kept_ == least)) return;
    const bool quick = saved_page_bytes(*session_.device(), *sequence_, session_.cache()) <= kQuicklyWritten;
    const SavedPages pages = quick ? SavedPages::all : least;
    save_sequence(*options_.session, conversation_.saved(), *session_.device(), *sequence_, session_.cache(), session_.pages_identity(),
                  pages);
    kept_ = pages;
  }

  void reset() {
    sequence_.reset();
    sequence_ = session_.cache().create();
    conversation_.reset();
    kept_.reset();
  }

  void answer(const std::string& user) {
    expect_utf8(user, "the message");
    conversation_.add("user", user);
    size_t prompt = 0;
    try {
      const std::vector<TokenId> ids = conversation_.ids();
      const std::string advice = longer_context(session_);
      check(static_cast<int64_t>(ids.size()) < session_.context(), "with this message the conversation has ", ids.size(),
            " tokens; the context ends at ", session_.context(), ". Shorten the message", advice.empty() ? " or" : ",",
            " begin anew with /reset", advice);
      // What is in the cache stays as far as the conversation is still the same.
      std::vector<TokenId>& tokens = sequence_->tokens;
      prompt = static_cast<size_t>(std::mismatch(tokens.begin(), tokens.end(), ids.begin(), ids.end()).first - tokens.begin());
      session_.cache().truncate(*sequence_, static_cast<int64_t>(prompt));
      tokens.insert(tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(prompt), ids.end());
      const StreamResult result = stream(session_, *sequence_, sampler_, drafting_, options_.stream);
      kept_.reset();
      conversation_.add_answer(result.text, {tokens.begin() + static_cast<std::ptrdiff_t>(ids.size()), tokens.end()});
      if (options_.show_timings) print_timing(session_, result, params_);
      if (result.interrupted) SignalWatch::forget_interrupt();
      if (result.cut)
        tell(message("note: the answer was cut: the context of ", session_.context(), " tokens is full. Begin anew with /reset", advice));
    } catch (...) {  // the turn did not happen
      conversation_.remove_last();
      session_.cache().truncate(*sequence_, static_cast<int64_t>(std::min(prompt, sequence_->tokens.size())));
      throw;
    }
  }

  void save(const std::string& path) const {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const Conversation::Message& said : conversation_.messages()) json.push_back({{"role", said.role}, {"content", said.content}});
    OutputFile file(path);
    file.write(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    file.finish();
  }

 private:
  const ChatOptions& options_;
  Session& session_;
  Conversation conversation_;
  SamplingParams params_;
  Sampler sampler_;
  Drafting drafting_;
  std::unique_ptr<Sequence> sequence_;
  // Of the conversation as it is, in the session's file; nullopt: the file is out of date.
  std::optional<SavedPages> kept_ = SavedPages::all;
};

// false: leave.
bool command(const std::string& line, Chat& conversation) {
  std::istringstream words(line);
  std::string name, argument;
  words >> name;
  std::getline(words >> std::ws, argument);
  if (name == "/quit") return false;
  if (name == "/help") {
    write_out(kHelp);
  } else if (name == "/reset") {
    conversation.reset();
    std::cerr << "(a new conversation)\n";
  } else if (name == "/save" && !argument.empty()) {
    conversation.save(argument);
    std::cerr << "(saved to " << argument << ")\n";
  } else {
    fail(name, name == "/save" ? ": name a file, as in /save talk.json" : ": is no command; /help lists them");
  }
  return true;
}

// Reads and answers until the end; the exit code.
int talk(Chat& conversation) {
  LineEditor editor;
  int code = 0;
  if (::isatty(STDIN_FILENO)) std::cerr << "Ask away; /help lists the commands.\n";
  while (const std::optional<std::string> line = editor.read("> ")) {
    if (line->find_first_not_of(" \t\n") == std::string::npos) continue;
    try {
      if (line->front() == '/') {
        if (!command(*line, conversation)) break;
      } else {
        conversation.answer(*line);
      }
      conversation.keep(SavedPages::none);
    } catch (const Interrupted&) {  // while the prompt was computed
      SignalWatch::forget_interrupt();
      std::cerr << '\n';
    } catch (const ClosedPipe&) {
      throw;
    } catch (const OutputError&) {
      throw;
    } catch (const DeviceError&) {
      throw;
    } catch (const std::exception& error) {  // of this turn alone
      tell(error.what());
      code = exit_code(error);
    }
  }
  return ::isatty(STDIN_FILENO) ? 0 : code;  // a person has seen it
}

int chat(const ChatOptions& options) {
  const SignalWatch watch;
  std::optional<SavedSequence> saved;
  if (options.session) {
    saved = open_saved("--session", *options.session, options.model);
    check<FileError>(!saved || !saved->about().empty(), *options.session, ": is a prompt cache of `tessera run`; name another file");
  }
  Session session(options.model);
  Chat conversation(options, session);
  if (saved) conversation.go_on(*saved);
  saved.reset();
  int code = 0;
  try {
    code = talk(conversation);
  } catch (const Interrupted&) {
    conversation.keep(SavedPages::all);
    throw;
  }
  conversation.keep(SavedPages::all);
  return code;
}

}  // namespace

void add_chat(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("chat", "Talk to an instruction-tuned model on the terminal");
  const auto options = std::make_shared<ChatOptions>();
  command.callback([options, &code] { code = chat(*options); });
  add_model_flags(command, options->model);
  add_chat_flags(command, options->chat, nullptr);
  add_new_tokens_flag(command, options->stream.new_tokens, 1, "New tokens of an answer at most");
  add_texts(command, "--stop", options->stream.stop, "End an answer before this text; may be given several times");
  command
      .add_option("--session", options->session,
                  "Keep the conversation in this file, and go on with the one that it holds; written after each answer. On the cpu")
      ->type_name("FILE");
  command.add_flag("--show-timings", options->show_timings, "Print behind each answer what was computed for it, and how fast");
  add_sampling_flags(command, options->sampling, options->model.generation_config);
  add_speculation_flags(command, options->speculation);
}

}  // namespace tessera

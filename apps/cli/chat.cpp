#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/commands.h"
#include "cli/line_editor.h"
#include "cli/stream.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/output_file.h"
#include "text/chat_template.h"

namespace tessera {
namespace {

// `tessera chat`: a conversation on the terminal. The cache is kept between turns: only what is new is computed.
struct ChatOptions {
  ModelFlags model;
  SamplingFlags sampling;
  SpeculationFlags speculation;
  StreamOptions stream;
  std::optional<std::string> system, chat_template;
};

constexpr const char* kHelp =
    "/help        this list\n"
    "/reset       begin a new conversation\n"
    "/save FILE   write the conversation as JSON\n"
    "/quit        leave (so does Ctrl-D)\n"
    "A line that ends with \\ goes on in the next. Ctrl-C stops an answer; at the prompt it leaves.\n";

class Conversation {
 public:
  Conversation(const ChatOptions& options, Session& session)
      : options_(options),
        session_(session),
        template_(ChatTemplate::choose(session.checkpoint().chat_template(), session.tokenizer(), options.chat_template)),
        sampler_(sampling_params(options.sampling, session.generation(), session.model().spec().vocab_size),
                 session.generation().tokens.eos),
        drafting_(open_drafting(options.speculation, options.model, session, sampler_)) {
    reset();
  }

  void reset() {
    sequence_.reset();
    sequence_ = session_.cache().create();
    messages_.clear();
    if (options_.system) messages_.push_back({ChatRole::system, *options_.system});
  }

  void answer(const std::string& user) {
    const bool first = sequence_->tokens.empty();
    messages_.push_back({ChatRole::user, user});
    const size_t before = sequence_->tokens.size();
    try {
      const std::vector<TokenId> ids =
          first ? template_.encode(session_.tokenizer(), messages_, true) : template_.encode_reply(session_.tokenizer(), user);
      sequence_->tokens.insert(sequence_->tokens.end(), ids.begin(), ids.end());
      const StreamResult result = stream(session_, *sequence_, sampler_, drafting_, options_.stream);
      messages_.push_back({ChatRole::assistant, result.text});
      if (result.interrupted) SignalWatch::forget_interrupt();
    } catch (...) {  // the turn did not happen
      messages_.pop_back();
      session_.cache().truncate(*sequence_, static_cast<int64_t>(std::min(before, sequence_->tokens.size())));
      throw;
    }
  }

  void save(const std::string& path) const {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const ChatMessage& m : messages_)
      json.push_back({{"role", m.role == ChatRole::system ? "system"
                               : m.role == ChatRole::user ? "user"
                                                          : "assistant"},
                      {"content", m.content}});
    OutputFile file(path);
    file.write(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    file.finish();
  }

 private:
  const ChatOptions& options_;
  Session& session_;
  ChatTemplate template_;
  Sampler sampler_;
  Drafting drafting_;
  std::unique_ptr<Sequence> sequence_;
  std::vector<ChatMessage> messages_;
};

// false: leave.
bool command(const std::string& line, Conversation& conversation) {
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
    std::cerr << name << (name == "/save" ? ": name a file, as in /save talk.json\n" : ": is no command; /help lists them\n");
  }
  return true;
}

int chat(const ChatOptions& options) {
  const SignalWatch watch;
  Session session(options.model);
  Conversation conversation(options, session);
  LineEditor editor;
  if (::isatty(STDIN_FILENO)) std::cerr << "Ask away; /help lists the commands.\n";
  while (const std::optional<std::string> line = editor.read("> ")) {
    if (line->find_first_not_of(" \t\n") == std::string::npos) continue;
    try {
      if (line->front() == '/') {
        if (!command(*line, conversation)) break;
      } else {
        conversation.answer(*line);
      }
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
    }
  }
  return 0;
}

}  // namespace

void add_chat(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("chat", "Talk to an instruction-tuned model on the terminal");
  const auto options = std::make_shared<ChatOptions>();
  command.callback([options, &code] { code = chat(*options); });
  add_model_flags(command, options->model);
  command.add_option("--system,--sys", options->system, "The system message")->type_name("TEXT");
  command.add_option("--template", options->chat_template, "The template if the checkpoint has none known: gemma, phi3 or chatml")
      ->type_name("NAME");
  command.add_option("-n,--predict", options->stream.new_tokens, "New tokens of an answer at most; as the checkpoint says if not given")
      ->check(CLI::PositiveNumber);
  command.add_option("--stop", options->stream.stop, "End an answer before this text; may be given several times")
      ->type_name("TEXT")
      ->take_all();
  add_sampling_flags(command, options->sampling, options->model.generation_config);
  add_speculation_flags(command, options->speculation);
}

}  // namespace tessera

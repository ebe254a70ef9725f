#include "cli/cli_main.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <new>
#include <sstream>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "cpu/isa.h"
#include "grammar/grammar_compiler.h"
#include "kinds/device_kinds.h"

namespace tessera {
namespace {

constexpr std::string_view kGrammarWorker = "grammar-worker";

std::vector<std::string>& program_words() {
  static std::vector<std::string> words;
  return words;
}

void list_devices() {
  for (const DeviceKind& kind : device_kinds())
    write_out(format("%-5s  ", kind.name.c_str()) +
              (!kind.is_card ? message(available_threads(), available_threads() == 1 ? " thread, " : " threads, ",
                                       cpu::name(cpu::default_isa()), " kernels\n")
               : kind.open   ? "through TTNN\n"
                             : "in the Python package's tessera command only\n"));
}

int fail_with(int code, std::string_view text) {
  tell(text);
  return code;
}

// A standard stream that is closed would be given to the next file that is opened: this one fails when it is used.
void fill_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0) static_cast<void>(::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

// "run ", of the command that was being read; nothing without one.
std::string command_of(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? "" : commands.front()->get_name() + " ";
}

int parse_and_run(int argc, char** argv) {
  CLI::App app{"Runs Hugging Face checkpoints."};
  app.name("tessera");
  app.formatter_fn([](const CLI::App* command, const std::string&, CLI::AppFormatMode) { return help_text(*command); });
  app.set_help_flag("-h,--help", "Print this and leave");
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", "tessera " TESSERA_VERSION, "Print the version and leave");
  app.add_flag_callback(
      "--list-devices",
      [] {
        list_devices();
        throw CLI::Success();
      },
      "List the devices and leave");
  int code = 0;
  for (const auto add :
       {add_run, add_chat, add_serve, add_batch, add_perplexity, add_inspect, add_tokenize, add_eval, add_bench, add_compare, add_plan})
    add(app, code);
  take_whole_values(app);
  std::vector<std::string> arguments = plain_arguments(app, {argv + std::min(argc, 1), argv + argc});
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& done) {
    std::ostringstream out;
    app.exit(done, out, out);
    write_out(out.str());
    return 0;
  } catch (const CLI::ParseError& error) {
    return fail_with(2, message(error.what(), "; see tessera ", command_of(app), "--help"));
  }
  if (app.get_subcommands().empty()) return fail_with(2, "name a command; see tessera --help");
  return code;
}

}  // namespace

std::vector<std::string> grammar_worker_command() {
  std::vector<std::string> words = program_words();
  words.emplace_back(kGrammarWorker);
  return words;
}

int cli_main(int argc, char** argv, const std::vector<std::string>& program) {
  program_words() = program;
  if (argc == 2 && argv[1] == kGrammarWorker) return grammar_worker_main(STDIN_FILENO);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // past the limit of a file's size a write fails as on a full disk
  fill_standard_streams();
  try {
    return parse_and_run(argc, argv);
  } catch (const Interrupted& signal) {
    return 128 + signal.number();
  } catch (const ClosedPipe&) {
    return 0;
  } catch (const std::bad_alloc&) {
    return fail_with(4, "out of memory");
  } catch (const std::exception& error) {
    return fail_with(exit_code(error), error.what());
  }
}

int exit_code(const std::exception& error) {
  if (dynamic_cast<const std::invalid_argument*>(&error) != nullptr) return 2;
  if (dynamic_cast<const FileError*>(&error) != nullptr) return 3;
  if (dynamic_cast<const ResourceError*>(&error) != nullptr || dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return 4;
  return dynamic_cast<const DeviceError*>(&error) != nullptr ? kDeviceLost : 1;
}

}  // namespace tessera

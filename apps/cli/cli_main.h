#pragma once
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

constexpr int kDeviceLost = 5;

// The tessera command. Exit codes: 0 done, 1 anything not below, 2 usage, 3 a bad model or file, 4 memory or disk, 5 a device does not
// answer any more, 130 and 143 signals.
// A reader that closes our output is no error. The Python package calls it too. `program`: the words that start it again, before a
// command's name.
int cli_main(int argc, char** argv, const std::vector<std::string>& program = {"/proc/self/exe"});

// What starts a GrammarCompiler's process: `program` and the command that no help names. Known while cli_main runs.
std::vector<std::string> grammar_worker_command();

// The exit code of a command that ends with this error.
int exit_code(const std::exception& error);

// "tessera: TEXT" on standard error, in one line.
void tell(std::string_view text);

}  // namespace tessera

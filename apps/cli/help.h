#pragma once
#include <string>

namespace CLI {
class App;
}

namespace tessera {

// --help of the program or of one of its commands, laid out as a manual page: name, synopsis, flags by group with their values, limits and
// defaults, examples, environment, exit codes.
std::string help_text(const CLI::App& app);

}  // namespace tessera

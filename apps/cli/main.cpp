#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <string_view>

#include "cli/cli_main.h"

namespace {

// Where memory is too short for an exception, the runtime ends without one. Set before anything static is made, which may need memory too.
[[gnu::constructor(101)]] void tell_when_memory_ends() {
  std::set_terminate([] {
    constexpr std::string_view kText = "tessera: out of memory\n";
    if (std::current_exception() != nullptr || ::write(STDERR_FILENO, kText.data(), kText.size()) < 0) std::abort();
    std::_Exit(4);
  });
}

}  // namespace

int main(int argc, char** argv) { return tessera::cli_main(argc, argv); }

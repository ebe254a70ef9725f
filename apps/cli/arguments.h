#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace tessera {

// What the program makes of its arguments where CLI11 makes something else.

// The arguments of a command line, without the program's name, as CLI11 is to see them: a flag may have underscores for its hyphens
// (--top_k), and --flag=VALUE is --flag VALUE, also with an empty one. What is a flag's value stays as it is.
std::vector<std::string> plain_arguments(CLI::App& app, std::vector<std::string> arguments);

// Every flag takes one value each time that it is given, and takes it whole: CLI11 would split "[a,b]" for one that may come several times.
void take_whole_values(CLI::App& app);

// A flag that may come several times, each time with a text.
CLI::Option* add_texts(CLI::App& command, const std::string& names, std::vector<std::string>& texts, const std::string& help);

// Numbers in the decimal system (010 is ten) and in their limits, which are said as a person writes them.
CLI::Validator whole_number(int64_t least, int64_t most = std::numeric_limits<int64_t>::max());
CLI::Validator seed_number();  // 64 bits
CLI::Validator real_number(double least, double most);

// "1 to 1024" of an option with one of these; "" without.
std::string limits_of(const CLI::Option& option);

}  // namespace tessera

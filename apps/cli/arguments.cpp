#include "cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "cli/report.h"
#include "core/error.h"

namespace tessera {
namespace {

// Begins a validator's description, from which limits_of takes the rest.
constexpr std::string_view kLimits = "limits ";

// Reads a number that may have a plus sign; false unless it is the whole text.
template <class Number>
bool read(std::string_view text, Number& number) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const char* const end = text.data() + text.size();
  return !text.starts_with('+') && std::from_chars(text.data(), end, number) == std::from_chars_result{end, std::errc()};
}

// Of a number of this kind in these limits. CLI11 reads integers as C does, so that it gets them without leading zeros.
template <class Number>
CLI::Validator number(const std::string& kind, Number least, Number most, const std::string& limits) {
  const auto convert = [=](std::string& text) {
    Number value{};
    if (!read(text, value) || !(value >= least && value <= most)) return "'" + text + "' is not accepted; give a " + kind + ", " + limits;
    if constexpr (std::is_integral_v<Number>) text = std::to_string(value);
    return std::string();
  };
  return CLI::Validator(convert, std::string(kLimits) + limits);
}

// The option of this name, among the command's own and those of its groups.
const CLI::Option* find(CLI::App& command, const std::string& name) {
  return name.size() < 2 ? nullptr : command.get_option_no_throw(name);
}

}  // namespace

std::vector<std::string> plain_arguments(CLI::App& app, std::vector<std::string> arguments) {
  std::vector<std::string> plain;
  CLI::App* command = &app;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with('-')) {
      const auto named = app.get_subcommands([&](const CLI::App* part) { return !argument.empty() && part->get_name() == argument; });
      if (command == &app && !named.empty()) command = named.front();
      plain.push_back(argument);
      continue;
    }
    const size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    std::string name = argument.substr(0, equals);
    if (name.starts_with("--")) std::replace(name.begin(), name.end(), '_', '-');
    const CLI::Option* const option = find(*command, name);
    const bool takes_value = option != nullptr && option->get_items_expected_max() > 0;
    if (option == nullptr || (equals != std::string::npos && !takes_value)) {
      plain.push_back(argument);
      continue;
    }
    plain.push_back(name);
    if (equals != std::string::npos) plain.push_back(argument.substr(equals + 1));
    if (equals == std::string::npos && takes_value && i + 1 < arguments.size()) plain.push_back(arguments[++i]);
  }
  return plain;
}

void take_whole_values(CLI::App& app) {
  for (CLI::Option* const option : app.get_options()) option->allow_extra_args(false);
  for (CLI::App* const part : app.get_subcommands({})) take_whole_values(*part);
}

// (By a callback of our own: newer CLI11 takes a text "{}" for none.)
CLI::Option* add_texts(CLI::App& command, const std::string& names, std::vector<std::string>& texts, const std::string& help) {
  const auto take = [&texts](const CLI::results_t& given) {
    texts = given;
    return true;
  };
  return command.add_option(names, take, help)->type_name("TEXT")->take_all();
}

CLI::Validator whole_number(int64_t least, int64_t most) {
  const bool bounded = most < std::numeric_limits<int64_t>::max();
  return number("whole number", least, most, bounded ? message(least, " to ", most) : message(least, " or more"));
}

CLI::Validator seed_number() { return number("whole number", uint64_t{0}, std::numeric_limits<uint64_t>::max(), "0 to 2^64 - 1"); }

CLI::Validator real_number(double least, double most) { return number("number", least, most, format("%.15g to %.15g", least, most)); }

std::string limits_of(const CLI::Option& option) {
  const std::string kind = option.get_type_name();
  const size_t from = kind.find(":" + std::string(kLimits));
  if (from == std::string::npos) return "";
  const size_t begin = from + 1 + kLimits.size();
  return kind.substr(begin, kind.find(':', begin) - begin);
}

}  // namespace tessera

#include "cli/forms.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/given_text.h"

namespace tessera {
namespace {

constexpr size_t kMostKnown = 64;

}  // namespace

void add_form_flags(CLI::App& command, FormFlags& flags, const std::string& help) {
  CLI::Option* const ignore_eos = command.get_option("--ignore-eos");
  CLI::Option* const schema =
      command.add_option("--json-schema", flags.json_schema, help + " is JSON of the schema in this file; - is standard input")
          ->type_name("FILE")
          ->excludes(ignore_eos);
  command.add_option("--regex", flags.regex, help + " matches this regular expression, as a whole")
      ->type_name("PATTERN")
      ->excludes(ignore_eos)
      ->excludes(schema);
}

std::optional<GrammarSource> form(const FormFlags& flags) {
  if (flags.json_schema) return GrammarSource{.kind = GrammarSource::Kind::json_schema, .text = read_given_text(*flags.json_schema)};
  if (!flags.regex) return std::nullopt;
  expect_utf8(*flags.regex, "--regex");
  return GrammarSource{.kind = GrammarSource::Kind::regex, .text = *flags.regex};
}

std::shared_ptr<const TokenConstraint> Forms::constraint(const GrammarSource& source) {
  const auto found = std::ranges::find(known_, source, [](const auto& one) { return one.first; });
  if (found != known_.end()) return found->second;
  if (known_.size() == kMostKnown) known_.erase(known_.begin());
  return known_.emplace_back(source, tessera::constraint(compile(vocabulary_, source))).second;
}

}  // namespace tessera

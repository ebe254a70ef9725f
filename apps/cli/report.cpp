#include "cli/report.h"

#include <CLI/CLI.hpp>

#include "cli/terminal.h"
#include "models/description.h"

namespace tessera {

void add_json_flag(CLI::App& command, std::optional<std::string>& path) {
  command.add_option("--json", path, "Write the results as JSON to this file; - is standard output")->type_name("FILE");
}

Report::Report(const std::optional<std::string>& path) : to_standard_output_(path == "-") {
  if (path && !to_standard_output_) file_.emplace(*path);
}

void Report::print(const std::string& text) {
  if (!to_standard_output_) write_out(text);
}

void Report::finish() {
  const std::string text = facts_.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (to_standard_output_) write_out(text);
  if (!file_) return;
  file_->write(text);
  file_->finish();
}

nlohmann::ordered_json precision_json(const ModelOptions& options) {
  return {{"weights", name(options.weights)}, {"activations", name(options.activations)}, {"cache", name(options.cache)}};
}

int64_t parameters(const ModelDescription& model) {
  int64_t count = 0;
  for (const ModelDescription::Weight& weight : model.weights)
    count += volume(weight.spec.shape) + (weight.spec.bias == Bias::none ? 0 : weight.spec.shape[2]);
  return count;
}

}  // namespace tessera

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/report.h"
#include "core/error.h"
#include "kinds/memory_plan.h"

namespace tessera {
namespace {

// `tessera plan`: whether a model fits a device's memory, from config.json alone.
struct PlanOptions {
  std::string model, device = "n150";
  std::optional<std::string> revision;
  Precision precision;
  int64_t context = 0, sequences = 1;
  int trace = 0;  // 1: the card records its decodes
  double gigabytes = 0;
  std::optional<std::string> json;
};

using OrderedJson = nlohmann::ordered_json;
constexpr int64_t kContext = 4096, kSequences[] = {1, 8, 32};
constexpr DataType kCaches[] = {DataType::bfloat16, DataType::bfloat8_b};
constexpr int kDoesNotFit = 4;  // the exit code of exhausted memory

// The longest context for each number of sequences, beside the one that was asked for, and each type of cache.
OrderedJson longest(const MemoryPlan& plan, Load load) {
  OrderedJson rows = OrderedJson::array();
  for (const int64_t sequences : kSequences) {
    OrderedJson& row = rows.emplace_back(OrderedJson{{"sequences", sequences}});
    load.sequences = sequences;
    for (const DataType cache : kCaches) {
      load.cache = cache;
      row[std::string(name(cache))] = plan.longest_context(load);
    }
  }
  return rows;
}

std::string longest_text(const OrderedJson& rows) {
  std::string text = format("\nlongest context\n  %-12s", "sequences");
  for (const DataType cache : kCaches) text += format("%12s", (std::string(name(cache)).c_str()));
  text += "  cache\n";
  for (const OrderedJson& row : rows) {
    text += format("  %-12lld", static_cast<long long>(row["sequences"].get<int64_t>()));
    for (const DataType cache : kCaches) {
      const auto context = row[std::string(name(cache))].get<int64_t>();
      text += format("%12s", context > 0 ? std::to_string(context).c_str() : "none");
    }
    text += '\n';
  }
  return text;
}

// Where `change` differs from `load`.
std::string flags(const Load& change, const Load& load) {
  std::string text;
  if (change.weights != load.weights) text += message(" --weights ", change.weights);
  if (change.cache != load.cache) text += message(" --cache ", change.cache);
  if (change.context != load.context) text += message(" -c ", change.context);
  if (change.sequences != load.sequences) text += message(" --sequences ", change.sequences);
  return text.substr(1);
}

std::string fit_text(const MemoryPlan& plan, const Need& need, const std::vector<std::string>& others) {
  const size_t memory = plan.memory.bytes, total = need.total();
  if (total <= memory) return message("fits: ", size_text(memory - total), " of ", size_text(plan.memory), " are left\n");
  std::string text =
      message("does not fit the ", plan.kind.name, ": ", size_text(total - memory), " more than ", size_text(plan.memory), '\n');
  if (others.empty()) return text + "no other type, shorter context or fewer sequences alone make it fit\n";
  for (const std::string& other : others) text += "it fits with " + other + '\n';
  return text;
}

int plan(const PlanOptions& options) {
  Report report(options.json);
  const ModelDescription model = describe_config(Checkpoint::open(options.model, options.revision));
  MemoryPlan plan{device_kind(options.device), model};
  if (options.gigabytes > 0) plan.memory = {static_cast<size_t>(options.gigabytes * 1e9)};
  const int64_t context = options.context > 0 ? options.context : std::min(kContext, model.spec.max_position_embeddings);
  const Load load = plan.load(options.precision, context, options.sequences, options.trace == 1);
  const Need need = plan.need(load);
  const bool fits = plan.fits(load);
  std::vector<std::string> others;
  if (!fits)
    for (const Load& change : plan.changes(load)) others.push_back(flags(change, load));
  const OrderedJson rows = longest(plan, load);
  std::string text = message(options.model, ", ", model.architecture, ", on ", plan.kind.name, "\n\n");
  const auto line = [&](const std::string& title, size_t bytes) {
    text += format("%-46s %10s\n", title.c_str(), size_text(bytes).c_str());
  };
  line(message("weights, ", load.weights), need.weights);
  line(message("cache, ", load.cache, ", ", load.sequences, load.sequences == 1 ? " sequence of " : " sequences of ", load.context,
               " tokens"),
       need.cache);
  line(message(load.traced ? "a forward's own and recordings, " : "a forward's own, ", load.activations), need.working);
  line("all", need.total());
  report.print(text + fit_text(plan, need, others) + longest_text(rows));
  report.set({{"command", "plan"},
              {"model", options.model},
              {"architecture", model.architecture},
              {"device", plan.kind.name},
              {"memory_bytes", plan.memory.bytes},
              {"memory_limit", plan.memory.limit},
              {"precision", {{"weights", name(load.weights)}, {"activations", name(load.activations)}, {"cache", name(load.cache)}}},
              {"context", load.context},
              {"sequences", load.sequences},
              {"bytes", {{"weights", need.weights}, {"cache", need.cache}, {"working", need.working}, {"all", need.total()}}},
              {"fits", fits},
              {"fits_with", others},
              {"longest_context", rows}});
  report.finish();
  return fits ? 0 : kDoesNotFit;
}

}  // namespace

void add_plan(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("plan", "Tell whether a model fits a device's memory, and with which context");
  const auto options = std::make_shared<PlanOptions>();
  command.callback([options, &code] { code = plan(*options); });
  command.footer(
      "Reads config.json, and the headers of the weights where they are there; no card, no weights and no Python are needed. The n150's "
      "figures count TTNN's tiles and banks; they are not measured on silicon. The cpu's memory is nine tenths of what is free here, or in "
      "the cgroup.\n"
      "The exit code is 0 when it fits and 4 when it does not.");
  add_checkpoint_flags(command, options->model, options->revision);
  command.add_option("--device", options->device, "n150 or cpu")->type_name("NAME")->capture_default_str();
  add_precision_flags(command, "--", "", options->precision);
  command
      .add_option("-c,--ctx-size", options->context,
                  "Tokens of a sequence, prompt and answer; 4096, or the model's own context, if not given")
      ->transform(whole_number(1, int64_t{1} << 30));
  command.add_option("--sequences", options->sequences, "Sequences that live at a time")
      ->transform(whole_number(1, 4096))
      ->capture_default_str();
  command.add_option("--trace", options->trace, "1: with room for the n150's recordings of decodes")->transform(whole_number(0, 1));
  command.add_option("--memory", options->gigabytes, "Gigabytes (10^9 bytes) to plan with; the device's own if not given")
      ->transform(real_number(0.001, 1e6));
  add_json_flag(command, options->json);
}

}  // namespace tessera

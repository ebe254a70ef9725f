#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "evaluate/comparison.h"

namespace tessera {
namespace {

// `tessera compare`: one forward on two sides, op by op.
struct CompareOptions {
  ModelFlags model;
  PromptFlags text;
  std::optional<std::string> other_model, other_device;
  Precision other;
  std::optional<std::string> against, hf_type, hf_save, html, json;
  std::optional<double> threshold;
  bool hf = false, all = false;
};

constexpr int64_t kChunk = 32;  // of a prompt: both sides keep every op's output of so many tokens, whose logits a card gives at a time
constexpr double kThreshold = 0.99, kFloat32Threshold = 1 - 1e-8;

struct Side {
  Side(const ModelFlags& flags, const std::shared_ptr<Device>& device)
      : session(flags, 1, device),
        title(message(flags.model, " on ", device->name(), flags.twin ? " as on the " + *flags.twin : "", ", weights ",
                      session.options().weights, ", activations ", session.options().activations, ", cache ", session.options().cache)),
        json({{"model", flags.model},
              {"device", device->name()},
              {"twin", flags.twin.value_or("")},
              {"precision", precision_json(session.options())}}) {}

  Session session;
  std::string title;
  nlohmann::ordered_json json;
};

// What is not said of the other side is as on this one.
ModelFlags other_flags(const CompareOptions& options, ModelFlags flags) {
  if (options.other_model) flags.revision.reset();
  flags.model = options.other_model.value_or(flags.model);
  if (options.other_device) flags.twin.reset();
  if (options.other_device && *options.other_device != flags.device) {
    flags.device = *options.other_device;
    flags.device_id = flags.trace = 0;  // of side a's card
  }
  const auto take = [](std::optional<DataType>& target, const std::optional<DataType>& given) {
    if (given) target = given;
  };
  take(flags.precision.weights, options.other.weights);
  take(flags.precision.activations, options.other.activations);
  take(flags.precision.cache, options.other.cache);
  return flags;
}

// Seven digits, or how far it is from 1.
std::string pcc_text(double pcc) { return pcc == 1 || 1 - pcc >= 1e-6 ? format("%.7f", pcc) : format("1 - %.0e", 1 - pcc); }

// The op with the lowest PCC.
const OpComparison& lowest(const Comparison& comparison) {
  return *std::min_element(comparison.ops.begin(), comparison.ops.end(),
                           [](const OpComparison& x, const OpComparison& y) { return x.difference.pcc() < y.difference.pcc(); });
}

// "First op below PCC 0.99: ...", or that there is none.
std::string verdict(const Comparison& comparison, double threshold) {
  const auto token_below = [&](const OpComparison& op) { return op.difference.first_row_below(threshold); };
  if (const OpComparison* const op = first_below(comparison, threshold)) {
    const auto token = token_below(*op);
    return message("First op below PCC ", format("%.10g", threshold), ": ", op->name, ", PCC ", pcc_text(op->difference.pcc()),
                   token ? message(", first at token ", *token) : "");
  }
  const OpComparison& low = lowest(comparison);
  std::string text =
      message("No op is below PCC ", format("%.10g", threshold), "; the lowest is ", low.name, ", PCC ", pcc_text(low.difference.pcc()));
  const auto single = std::find_if(comparison.ops.begin(), comparison.ops.end(), token_below);
  return single == comparison.ops.end()
             ? text
             : text + message("\nOf single tokens, the first below it is token ", *token_below(*single), " of ", single->name);
}

std::string row(const OpComparison& op) {
  const Difference& d = op.difference;
  const int64_t worst = d.worst_row().value_or(0);
  const std::string pcc = pcc_text(d.pcc()), worst_pcc = pcc_text(d.rows()[static_cast<size_t>(worst)].pcc());
  return format("%-40s %9s %9s @%-5lld %9.3g @%-5lld %9.3g %9.3g %9.3g", op.name.c_str(), pcc.c_str(), worst_pcc.c_str(),
                static_cast<long long>(worst), d.max_difference(), static_cast<long long>(d.max_row()), d.relative_error(), d.mean_ulps(),
                d.max_ulps()) +
         (d.broken() > 0 ? message("  ", d.broken(), " not finite\n") : "\n");
}

std::string header(const char* title) {
  return format("%-40s %9s %9s @%-5s %9s @%-5s %9s %9s %9s\n", title, "PCC", "worst", "token", "max |d|", "token", "relative", "ulps mean",
                "ulps max");
}

// Every op, or of each layer the one with the lowest PCC.
std::string table(const Comparison& comparison, bool all) {
  std::string out = header(all ? "op" : "the lowest op of each layer");
  const auto& ops = comparison.ops;
  for (auto first = ops.begin(); first != ops.end();) {
    const auto end =
        all || !first->layer ? first + 1 : std::find_if(first, ops.end(), [&](const OpComparison& op) { return op.layer != first->layer; });
    out += row(*std::min_element(first, end,
                                 [](const OpComparison& x, const OpComparison& y) { return x.difference.pcc() < y.difference.pcc(); }));
    first = end;
  }
  return out;
}

void check_context(const Session& session, size_t tokens) {
  check(static_cast<int64_t>(tokens) <= session.context(), "the prompt has ", tokens, " tokens; the context ends at ", session.context());
}

nlohmann::ordered_json op_json(const OpComparison& op, double threshold) {
  const Difference& d = op.difference;
  const auto index = [](const std::optional<int64_t>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  const auto worst = d.worst_row();
  return {
      {"name", op.name},
      {"op", op.op},
      {"layer", index(op.layer)},
      {"width", op.width},
      {"types", {name(op.a_type), name(op.b_type)}},
      {"pcc", d.pcc()},
      {"worst_token", index(worst)},
      {"worst_token_pcc", worst ? nlohmann::ordered_json(d.rows()[static_cast<size_t>(*worst)].pcc()) : nlohmann::ordered_json(nullptr)},
      {"first_token_below", index(d.first_row_below(threshold))},
      {"max_difference", d.max_difference()},
      {"max_token", d.max_row()},
      {"relative_error", d.relative_error()},
      {"mean_ulps", d.mean_ulps()},
      {"max_ulps", d.max_ulps()},
      {"not_finite", d.broken()}};
}

// Two sides that compute the same in float32 part by the order of their sums alone.
double default_threshold(const Comparison& comparison, bool same_weights) {
  const bool exact = std::all_of(comparison.ops.begin(), comparison.ops.end(),
                                 [](const OpComparison& op) { return op.a_type == DataType::float32 && op.b_type == DataType::float32; });
  return exact && same_weights ? kFloat32Threshold : kThreshold;
}

// Of the op to look at, what the page of --html plots token by token.
nlohmann::ordered_json shown_json(const OpComparison& op) {
  nlohmann::ordered_json below_one = nlohmann::ordered_json::array(), errors = below_one;
  for (const auto& row : op.difference.rows()) {
    below_one.push_back(row.below_one);
    errors.push_back(row.relative_error);
  }
  return {{"name", op.name}, {"one_minus_pcc", std::move(below_one)}, {"relative_error", std::move(errors)}};
}

nlohmann::ordered_json comparison_json(const Comparison& comparison, double threshold) {
  nlohmann::ordered_json ops = nlohmann::ordered_json::array();
  for (const OpComparison& op : comparison.ops) ops.push_back(op_json(op, threshold));
  const OpComparison* const first = first_below(comparison, threshold);
  return {{"tokens", comparison.tokens},
          {"threshold", threshold},
          {"verdict", verdict(comparison, threshold)},
          {"first_below", first ? nlohmann::ordered_json(first->name) : nlohmann::ordered_json(nullptr)},
          {"ops", std::move(ops)},
          {"shown", shown_json(first ? *first : lowest(comparison))},
          {"only_a", comparison.only_a},
          {"only_b", comparison.only_b}};
}

// The ops around the first one below the threshold: those of its layer.
std::string guilty_layer(const Comparison& comparison, double threshold) {
  const OpComparison* const guilty = first_below(comparison, threshold);
  if (!guilty || !guilty->layer) return {};
  std::string out = '\n' + header(message("layer ", *guilty->layer).c_str());
  for (const OpComparison& op : comparison.ops)
    if (op.layer == guilty->layer) out += row(op);
  return out;
}

std::string not_compared(const char* side, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  return message(names.size(), names.size() == 1 ? " op" : " ops", " of side ", side, " alone, not compared: ", names.front(),
                 names.size() > 1 ? ", ...\n" : "\n");
}

// The other side as it is told, and what was found.
struct Result {
  std::string b;
  nlohmann::ordered_json b_json;
  bool same_weights;
  Comparison comparison;
};

void publish(const CompareOptions& options, Report& report, const Side& a, const Result& result) {
  const Comparison& comparison = result.comparison;
  const double threshold = options.threshold.value_or(default_threshold(comparison, result.same_weights));
  std::string text = message("a  ", a.title, "\nb  ", result.b, "\ncompared ", comparison.ops.size(), " ops of ", comparison.tokens,
                             comparison.tokens == 1 ? " token\n" : " tokens\n");
  text += not_compared("a", comparison.only_a) + not_compared("b", comparison.only_b) + '\n' + table(comparison, options.all);
  if (!options.all) text += guilty_layer(comparison, threshold);
  report.print(text + '\n' + verdict(comparison, threshold) + '\n');
  report.set({{"command", "compare"}, {"a", a.json}, {"b", result.b_json}});
  report.set(comparison_json(comparison, threshold));
  report.finish();
}

int compare(const CompareOptions& options) {
  const SignalWatch watch;
  check(!options.hf, "compare: --hf runs Hugging Face's model in Python; use the tessera command of the Python package (pip install .)");
  check(!options.html, "compare: --html is made in Python; use the tessera command of the Python package (pip install .), or --json FILE");
  const Precision& types = options.other;
  const bool other = options.other_model || options.other_device || types.weights || types.activations || types.cache;
  check(other != options.against.has_value(),
        "compare: give one other side: --weights-b, --activations-b, --cache-b, --model-b or --device-b, or --against FILE");
  check(options.text.given() != options.against.has_value(), "compare: ",
        options.against ? "--against has its own prompt; leave -p, -f and --ids-file out" : "give a prompt by -p, -f or --ids-file");
  Report report(options.json);
  ModelFlags flags = options.model;
  if (flags.batch == 0) flags.batch = kChunk;
  const std::shared_ptr<Device> device = open_device(flags);
  Side a(flags, device);
  ProgressBar bar("comparing");
  const auto progress = bar.watched();
  const DataType weights = a.session.options().weights;
  if (options.against) {
    const RecordedRows recorded(*options.against);
    check_context(a.session, recorded.tokens().size());
    const bool rounded = weights == DataType::bfloat8_b || weights == DataType::bfloat4_b;
    publish(options, report, a,
            {message("recorded in ", *options.against),
             {{"file", *options.against}},
             !rounded,
             compare_with_recording(a.session.generator(), recorded, progress)});
    return 0;
  }
  const ModelFlags b_flags = other_flags(options, flags);
  Side b(b_flags, b_flags.device == flags.device && b_flags.twin == flags.twin ? device : open_device(b_flags));
  const std::vector<TokenId> tokens = prompt_ids(options.text, a.session);
  check_context(a.session, tokens.size());
  check_context(b.session, tokens.size());
  publish(options, report, a,
          {b.title, b.json, weights == b.session.options().weights,
           compare_forwards(a.session.generator(), b.session.generator(), tokens, progress)});
  return 0;
}

}  // namespace

void add_compare(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("compare", "Find the op where two sides of one forward part");
  const auto options = std::make_shared<CompareOptions>();
  command.callback([options, &code] { code = compare(*options); });
  command.footer(
      "Runs one prompt through side a (-m and its types) and side b, and compares what every op gave.\n"
      "Side b is the same model with other types, another checkpoint or device, a recording, or Hugging Face's own forward.\n\n"
      "  tessera compare -m MODEL -f TEXT --weights bfloat8_b --weights-b bfloat16\n"
      "  tessera compare -m MODEL -p TEXT --weights float32 --activations float32 --hf --html page.html\n\n"
      "The first op whose PCC is below the threshold is where to look: its inputs were still right. docs/compare.md explains the columns.\n"
      "The exit code is 0 whatever the result.");
  add_model_flags(command, options->model);
  add_prompt_flags(command, options->text).require_option(0, 1);
  command.add_option("--model-b", options->other_model, "Side b's checkpoint; a's if not given, as for the four flags below")
      ->type_name("MODEL");
  command.add_option("--device-b", options->other_device, "Side b's device")->type_name("NAME");
  add_precision_flags(command, "--", "-b", options->other);
  command.add_option("--against", options->against, "Side b is this recording; it has its own prompt")->type_name("FILE");
  CLI::Option* const hf = command.add_flag(
      "--hf", options->hf, "Side b is Hugging Face's model (of --model-b, or -m); in the Python package's tessera command only");
  command.add_option("--hf-type", options->hf_type, "Hugging Face's precision: float32 (the default) or bfloat16")
      ->needs(hf)
      ->type_name("TYPE");
  command.add_option("--hf-save", options->hf_save, "Keep its recording in this file, for --against")->needs(hf)->type_name("FILE");
  command
      .add_option("--threshold", options->threshold,
                  "An op with a PCC below this is named; if not given, 0.99, or 0.99999999 when both sides compute the same in float32")
      ->transform(real_number(-1, 1));
  command.add_flag("--all", options->all, "Print every op, not only the lowest of each layer");
  command
      .add_option("--html", options->html,
                  "Write a page with plots to this file, which loads nothing from elsewhere; in the Python package's tessera command only")
      ->type_name("FILE");
  add_json_flag(command, options->json);
}

}  // namespace tessera

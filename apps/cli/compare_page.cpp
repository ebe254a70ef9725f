#include "cli/compare_page.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cli/plot.h"
#include "cli/report.h"
#include "core/error.h"

namespace tessera {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1c2128; --muted: #5d6673; --rule: #dfe3e8; --curve: #2f6ea8;
  --bad: #b3261e; --good: #23704a; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --card: #1d2126; --ink: #e4e7eb; --muted: #9aa4b0; --rule: #343a42; --curve: #7ab3e6; --bad: #ff8a80;
  --good: #7fd1a3; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 12px; } h2 { font-size: 16px; margin: 0; } p { margin: 2px 0 10px; color: var(--muted); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 16px 20px; margin-top: 16px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0; overflow-wrap: anywhere; }
  dt { color: var(--muted); } dd { margin: 0; }
.verdict { border-left: 6px solid var(--good); font-size: 17px; font-weight: 600; white-space: pre-line; overflow-wrap: anywhere; }
  .verdict.bad { border-left-color: var(--bad); }
.tiles { display: flex; flex-wrap: wrap; gap: 8px 34px; margin-top: 10px; font-weight: 400; } .tiles div { font-size: 20px;
  font-variant-numeric: tabular-nums; }
.tiles span { display: block; font-size: 12.5px; color: var(--muted); }
svg { display: block; width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--muted); } svg .power { font-size: 9px; }
.grid { stroke: var(--rule); } .threshold { stroke: var(--bad); stroke-dasharray: 5 4; } .curve { fill: none; stroke: var(--curve);
  stroke-width: 1.2; opacity: .55; }
.point { fill: var(--curve); } .above { fill: var(--bad); } .marked { fill: var(--ink); stroke: var(--card); stroke-width: 1.5; }
  .marked.above { fill: var(--bad); }
.cell { stroke: var(--card); stroke-width: 1.5; } .guilty { fill: none; stroke: var(--ink); stroke-width: 2.4; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 6px; text-align: right; white-space: nowrap; } th { color: var(--muted); font-weight: 600;
  border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
  tbody tr:nth-child(even) { background: color-mix(in srgb, var(--rule) 28%, transparent); }
tr.below td { color: var(--bad); font-weight: 600; } tr:target td { outline: 2px solid var(--curve); outline-offset: -2px; }
)";

// The map's colours by 1 - PCC; the last is for all above.
constexpr std::array<std::pair<double, const char*>, 7> kColours{{{1e-10, "#e4edf4"},
                                                                  {1e-8, "#c3d8e8"},
                                                                  {1e-6, "#94bad6"},
                                                                  {1e-4, "#f2dca6"},
                                                                  {1e-3, "#edae5e"},
                                                                  {1e-2, "#d9703a"},
                                                                  {HUGE_VAL, "#a3262a"}}};

const char* colour(double pcc) {
  return std::find_if(kColours.begin(), kColours.end(), [&](const auto& entry) { return 1 - pcc < entry.first; })->second;
}

std::string section(const char* title, const std::string& explained, const std::string& content) {
  return message("<section><h2>", title, "</h2><p>", explained, "</p>", content, "</section>\n");
}

// "layers.3.self_attn.q_norm" -> "self_attn.q_norm"
std::string in_layer(const OpComparison& op) { return op.layer ? op.name.substr(op.name.find('.', op.name.find('.') + 1) + 1) : op.name; }

const OpComparison& shown(const Comparison& comparison, double threshold) {
  const OpComparison* const first = first_below(comparison, threshold);
  return first ? *first : lowest(comparison);
}

std::string summary(const Comparison& comparison, const ComparisonTitle& title) {
  const OpComparison& op = shown(comparison, title.threshold);
  const Difference& d = op.difference;
  const auto tile = [](const std::string& value, const char* label) { return message("<div>", value, "<span>", label, "</span></div>"); };
  const bool bad = first_below(comparison, title.threshold) != nullptr;
  return message("<section class='verdict", bad ? " bad" : "", "' id='verdict'>", escaped(verdict(comparison, title.threshold)),
                 "<div class='tiles'>", tile(pcc_text(d.pcc()), "PCC"), tile(format("%.3g", d.max_difference()), "largest |a − b|"),
                 tile(format("%.3g", d.relative_error()), "relative error |a − b| / |b|"),
                 tile(format("%.3g", d.mean_ulps()), "ulps, mean"), tile(format("%.3g", d.max_ulps()), "ulps, most"), "</div></section>\n");
}

std::string legend(double y) {
  std::string out = format("<text x='0' y='%.0f'>1 − PCC below</text>", y + 11);
  double x = 100;
  for (const auto& [limit, fill] : kColours) {
    out += format("<rect x='%.0f' y='%.0f' width='14' height='14' fill='%s'/>", x, y, fill);
    out += format("<text x='%.0f' y='%.0f'>", x + 19, y + 11) + (std::isfinite(limit) ? format("%.0e", limit) : std::string("above")) +
           "</text>";
    x += 78;
  }
  return out;
}

// Layers across, ops down.
std::string map_of_layers(const Comparison& comparison, double threshold) {
  constexpr double kName = 196, kCellHeight = 17, kTop = 20;
  std::vector<std::string> rows;
  int64_t layers = 0;
  for (const OpComparison& op : comparison.ops) {
    if (!op.layer) continue;
    layers = std::max(layers, *op.layer + 1);
    if (const std::string name = in_layer(op); std::find(rows.begin(), rows.end(), name) == rows.end()) rows.push_back(name);
  }
  if (rows.empty()) return {};
  const double cell = std::min(42.0, (960 - kName) / static_cast<double>(layers)),
               bottom = kTop + kCellHeight * static_cast<double>(rows.size());
  std::string out = format("<svg viewBox='0 0 960 %.0f' role='img' aria-label='PCC of each op of each layer'>", bottom + 34);
  for (int64_t layer = 0; layer < layers; layer += layers > 40 ? 4 : 1)
    out += format("<text x='%.1f' y='13' text-anchor='middle'>%lld</text>", kName + cell * (static_cast<double>(layer) + 0.5),
                  static_cast<long long>(layer));
  for (size_t row = 0; row < rows.size(); ++row)
    out += format("<text x='0' y='%.1f'>", kTop + kCellHeight * static_cast<double>(row) + 12.5) + escaped(rows[row]) + "</text>";
  const OpComparison* const guilty = first_below(comparison, threshold);
  std::string outline;
  for (size_t i = 0; i < comparison.ops.size(); ++i) {
    const OpComparison& op = comparison.ops[i];
    if (!op.layer) continue;
    const auto row = std::find(rows.begin(), rows.end(), in_layer(op)) - rows.begin();
    const std::string place = format("x='%.1f' y='%.1f' width='%.1f' height='%.1f'", kName + cell * static_cast<double>(*op.layer),
                                     kTop + kCellHeight * static_cast<double>(row), cell, kCellHeight);
    out += message("<a href='#op", i, "'><rect ", place, " class='cell' fill='", colour(op.difference.pcc()), "'><title>", escaped(op.name),
                   ": PCC ", pcc_text(op.difference.pcc()), "</title></rect></a>");
    if (&op == guilty) outline = message("<rect ", place, " class='guilty'/>");
  }
  return out + outline + legend(bottom + 14) + "</svg>\n";
}

using Measure = double (*)(const Difference&);

std::string along_the_forward(const Comparison& comparison, const char* label, Measure measure, std::optional<double> threshold,
                              double pcc_threshold) {
  LogPlot plot{.label = label, .threshold = threshold};
  const OpComparison& op_shown = shown(comparison, pcc_threshold);
  int64_t layers = 1;
  for (const OpComparison& op : comparison.ops) layers = std::max(layers, op.layer.value_or(0) + 1);
  std::optional<int64_t> last;
  for (size_t i = 0; i < comparison.ops.size(); ++i) {
    const OpComparison& op = comparison.ops[i];
    const double value = measure(op.difference);
    plot.values.push_back(value);
    plot.hints.push_back(op.name + format(": %.3g", value));
    if (op.layer && op.layer != last && *op.layer % (1 + layers / 20) == 0) plot.ticks.push_back({i, std::to_string(*op.layer)});
    last = op.layer;
    if (&op == &op_shown) plot.marked = i;
  }
  return svg(plot);
}

std::string along_the_tokens(const OpComparison& op, double threshold) {
  LogPlot plot{.label = "1 - PCC of each token", .threshold = 1 - threshold};
  const auto& rows = op.difference.rows();
  size_t every = 1;  // 1, 2, 5, 10, ...
  for (size_t factors[] = {2, 5, 10}, decade = 1; rows.size() / every > 16; decade *= every == 10 * decade ? 10 : 1)
    every = decade * *std::find_if(std::begin(factors), std::end(factors), [&](size_t factor) { return decade * factor > every; });
  for (size_t i = 0; i < rows.size(); ++i) {
    plot.values.push_back(static_cast<double>(rows[i].below_one));
    plot.hints.push_back(message("token ", i) + ": PCC " + pcc_text(rows[i].pcc()) +
                         format(", relative error %.3g", static_cast<double>(rows[i].relative_error)));
    if (i % every == 0) plot.ticks.push_back({i, std::to_string(i)});
  }
  return svg(plot);
}

std::string numbers(const Comparison& comparison, double threshold) {
  std::string out =
      "<div class='wide'><table><thead><tr><th>op</th><th>types a, b</th><th>PCC</th><th>worst token</th><th>its PCC</th><th>largest |a − "
      "b|</th><th>relative</th>"
      "<th>ulps mean</th><th>ulps most</th></tr></thead><tbody>\n";
  for (size_t i = 0; i < comparison.ops.size(); ++i) {
    const OpComparison& op = comparison.ops[i];
    const Difference& d = op.difference;
    const int64_t worst = d.worst_row().value_or(0);
    out += message("<tr id='op", i, '\'', d.pcc() < threshold ? " class='below'" : "", "><td>", escaped(op.name), "</td><td>", op.a_type,
                   ", ", op.b_type, "</td><td>", pcc_text(d.pcc()), "</td><td>", worst, "</td><td>",
                   pcc_text(d.rows()[static_cast<size_t>(worst)].pcc()), "</td>");
    out += format("<td>%.3g</td><td>%.3g</td><td>%.3g</td><td>%.3g</td></tr>\n", d.max_difference(), d.relative_error(), d.mean_ulps(),
                  d.max_ulps());
  }
  return out + "</tbody></table></div>";
}

std::string not_compared(const char* side, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + escaped(name);
  return message("<dt>only in ", side, "</dt><dd><details><summary>", names.size(), " not compared</summary>", list, "</details></dd>");
}

}  // namespace

std::string pcc_text(double pcc) { return pcc == 1 || 1 - pcc >= 1e-6 ? format("%.7f", pcc) : format("1 - %.0e", 1 - pcc); }

const OpComparison& lowest(const Comparison& comparison) {
  return *std::min_element(comparison.ops.begin(), comparison.ops.end(),
                           [](const OpComparison& x, const OpComparison& y) { return x.difference.pcc() < y.difference.pcc(); });
}

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

std::string comparison_page(const Comparison& comparison, const ComparisonTitle& title) {
  const OpComparison& op = shown(comparison, title.threshold);
  std::string out = message(
      "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, "
      "initial-scale=1'>\n<title>",
      escaped(title.a), " beside ", escaped(title.b), "</title><style>", kStyle,
      "</style></head><body><main>\n<h1>One forward on two sides</h1>\n<dl><dt>a</dt><dd>", escaped(title.a),
      "</dd><dt>b, the reference</dt><dd>", escaped(title.b), "</dd><dt>compared</dt><dd>", comparison.ops.size(), " ops, ",
      comparison.tokens, " tokens</dd>", not_compared("a", comparison.only_a), not_compared("b", comparison.only_b), "</dl>\n");
  out += summary(comparison, title);
  if (const std::string map = map_of_layers(comparison, title.threshold); !map.empty())
    out += section("Layer by layer", "Layers across, ops down in the order of the forward. A cell leads to its numbers.", map);
  out +=
      section("Along the forward: 1 − PCC", "Every op in the forward's order; the axis names layers, the dashed line is the threshold.",
              along_the_forward(
                  comparison, "1 - PCC of each op", [](const Difference& d) { return 1 - d.pcc(); }, 1 - title.threshold, title.threshold));
  out += section("Along the forward: relative error", "|a − b| / |b|, Euclidean norms over all tokens.",
                 along_the_forward(
                     comparison, "relative error of each op", [](const Difference& d) { return d.relative_error(); }, {}, title.threshold));
  out += section(message("Token by token: ", escaped(op.name)).c_str(), "1 − PCC of each token's row, by the token's place in the prompt.",
                 along_the_tokens(op, title.threshold));
  out += section("All numbers", "Ulps are of the coarser of the two types.", numbers(comparison, title.threshold));
  return out + "</main></body></html>\n";
}

}  // namespace tessera

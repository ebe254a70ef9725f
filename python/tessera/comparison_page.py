"""The page of `tessera compare --html`: one HTML file that loads nothing from elsewhere, made from what the C++ command's --json has."""
import math
from html import escape
from itertools import dropwhile
from typing import Any

STYLE = """
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
"""
# The map's colours by 1 - PCC; the last is for all above.
COLOURS = [(1e-10, "#e4edf4"), (1e-8, "#c3d8e8"), (1e-6, "#94bad6"), (1e-4, "#f2dca6"), (1e-3, "#edae5e"), (1e-2, "#d9703a"), (math.inf, "#a3262a")]
COLUMNS = ["op", "types a, b", "PCC", "worst token", "its PCC", "largest |a − b|", "relative", "ulps mean", "ulps most"]
LOWEST = -13  # decades: below lies the rounding of the sums themselves

Facts = dict[str, Any]  # the JSON's


def page(facts: Facts) -> str:
    a, b = (escape(title(facts[side])) for side in "ab")
    ops, shown, threshold = facts["ops"], facts["shown"], facts["threshold"]
    marked = next(i for i, op in enumerate(ops) if op["name"] == shown["name"])
    ticks = layer_ticks(ops)
    of_tokens = [f"token {i}: PCC {pcc_text(1 - below)}, relative error {number(error)}"
                 for i, (below, error) in enumerate(zip(shown["one_minus_pcc"], shown["relative_error"]))]
    along = [("1 - PCC", "Along the forward: 1 − PCC", "Every op in the forward's order; the axis names layers, the dashed line is the threshold.",
              [1 - op["pcc"] for op in ops], 1 - threshold),
             ("relative error", "Along the forward: relative error", "|a − b| / |b|, Euclidean norms over all tokens.", [op["relative_error"] for op in ops], None)]
    sections = [section("Layer by layer", "Layers across, ops down in the order of the forward. A cell leads to its numbers.", map_of_layers(facts))]
    sections += [section(head, told, plot(f"{label} of each op", values, [f"{op['name']}: {number(value)}" for op, value in zip(ops, values)], ticks, limit, marked))
                 for label, head, told, values, limit in along]
    sections.append(section(f"Token by token: {escape(shown['name'])}", "1 − PCC of each token's row, by the token's place in the prompt.",
                            plot("1 - PCC of each token", shown["one_minus_pcc"], of_tokens, token_ticks(len(of_tokens)), 1 - threshold)))
    sections.append(section("All numbers", "Ulps are of the coarser of the two types.", numbers(ops, threshold)))
    return (f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>\n"
            f"<title>{a} beside {b}</title><style>{STYLE}</style></head><body><main>\n<h1>One forward on two sides</h1>\n"
            f"<dl><dt>a</dt><dd>{a}</dd><dt>b, the reference</dt><dd>{b}</dd><dt>compared</dt><dd>{len(ops)} ops, {facts['tokens']} tokens</dd>"
            f"{not_compared(facts, 'a')}{not_compared(facts, 'b')}</dl>\n{summary(facts, ops[marked])}{''.join(sections)}</main></body></html>\n")


def title(side: Facts) -> str:
    if "file" in side:
        return f"recorded in {side['file']}"
    types = ", ".join(f"{part} {dtype}" for part, dtype in side["precision"].items())
    return f"{side['model']} on {side['device']}{' as on the ' + side['twin'] if side['twin'] else ''}, {types}"


def pcc_text(pcc: float) -> str:
    """Seven digits, or how far it is from 1."""
    return f"{pcc:.7f}" if pcc == 1 or 1 - pcc >= 1e-6 else f"1 - {1 - pcc:.0e}"


def number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3g}"  # JSON has no infinity


def section(head: str, told: str, content: str) -> str:
    return f"<section><h2>{head}</h2><p>{told}</p>{content}</section>\n" if content else ""


def not_compared(facts: Facts, side: str) -> str:
    names = facts[f"only_{side}"]
    listed = escape(", ".join(names))
    return f"<dt>only in {side}</dt><dd><details><summary>{len(names)} not compared</summary>{listed}</details></dd>" if names else ""


def summary(facts: Facts, op: Facts) -> str:
    values = {"PCC": pcc_text(op["pcc"]), "largest |a − b|": number(op["max_difference"]), "relative error |a − b| / |b|": number(op["relative_error"]),
              "ulps, mean": number(op["mean_ulps"]), "ulps, most": number(op["max_ulps"])}
    tiles = "".join(f"<div>{value}<span>{label}</span></div>" for label, value in values.items())
    bad = " bad" if facts["first_below"] else ""
    return f"<section class='verdict{bad}' id='verdict'>{escape(facts['verdict'])}<div class='tiles'>{tiles}</div></section>\n"


def map_of_layers(facts: Facts) -> str:
    """Layers across, ops down."""
    of_layers = [(i, op, op["name"].split(".", 2)[2]) for i, op in enumerate(facts["ops"]) if op["layer"] is not None]
    if not of_layers:
        return ""
    rows = list(dict.fromkeys(name for _, _, name in of_layers))
    layers = max(op["layer"] for _, op, _ in of_layers) + 1
    left, height, top = 196, 17, 20
    cell, bottom = min(42.0, (960 - left) / layers), top + height * len(rows)
    out = [f"<svg viewBox='0 0 960 {bottom + 34}' role='img' aria-label='PCC of each op of each layer'>"]
    out += [text(left + cell * (layer + 0.5), 13, "middle", str(layer)) for layer in range(0, layers, 4 if layers > 40 else 1)]
    out += [text(0, top + height * row + 12.5, "start", escape(name)) for row, name in enumerate(rows)]
    outline = ""
    for i, op, name in of_layers:
        place = f"x='{left + cell * op['layer']:.1f}' y='{top + height * rows.index(name)}' width='{cell:.1f}' height='{height}'"
        fill = next(colour for limit, colour in COLOURS if 1 - op["pcc"] < limit)
        out.append(f"<a href='#op{i}'><rect {place} class='cell' fill='{fill}'><title>{escape(op['name'])}: PCC {pcc_text(op['pcc'])}</title></rect></a>")
        if op["name"] == facts["first_below"]:
            outline = f"<rect {place} class='guilty'/>"
    legend = [text(0, bottom + 25, "start", "1 − PCC below")]
    for x, (limit, colour) in zip(range(100, 960, 78), COLOURS):
        legend.append(f"<rect x='{x}' y='{bottom + 14}' width='14' height='14' fill='{colour}'/>" +
                      text(x + 19, bottom + 25, "start", f"{limit:.0e}" if math.isfinite(limit) else "above"))
    return "".join([*out, outline, *legend, "</svg>\n"])


def layer_ticks(ops: list[Facts]) -> dict[int, str]:
    firsts = {op["layer"]: i for i, op in reversed(list(enumerate(ops))) if op["layer"] is not None}
    return {i: str(layer) for layer, i in firsts.items() if layer % (1 + len(firsts) // 20) == 0}


def token_ticks(tokens: int) -> dict[int, str]:
    """Sixteen at most, every 1, 2, 5, 10, ... tokens."""
    steps = (factor * 10**decade for decade in range(20) for factor in (1, 2, 5))
    return {i: str(i) for i in range(0, tokens, next(dropwhile(lambda step: tokens // step > 16, steps)))}


def text(x: float, y: float, anchor: str, content: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{content}</text>"


def plot(label: str, values: list[float | None], hints: list[str], ticks: dict[int, str], threshold: float | None, marked: int | None = None) -> str:
    """Values along an axis of steps, on a logarithmic scale. A zero lies on the floor, what JSON has no number for at the top."""
    width, height, left, right, top, bottom = 960, 230, 62, 12, 10, 26
    known = [value for value in values if value is not None and value > 0] + [threshold or 1e-3]
    low = max(LOWEST, math.floor(math.log10(min(known))) - 1)
    high = max(low + 2, math.ceil(math.log10(max(known))))

    def x(step: int) -> float:
        return left + (width - left - right) * (step + 0.5) / max(len(values), 1)

    def y(value: float | None) -> float:
        decade = high if value is None else min(max(math.log10(value), low), high) if value > 0 else low
        return top + (height - top - bottom) * (high - decade) / (high - low)

    def line(value: float, style: str) -> str:
        return f"<line x1='{left}' y1='{y(value):.1f}' x2='{width - right}' y2='{y(value):.1f}' class='{style}'/>"

    out = [f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(label)}'>"]
    for decade in range(high, low - 1, -((high - low + 6) // 7)):
        power = f"10<tspan class='power' dy='-5'>{decade}</tspan>" if decade else "1"
        out += [line(10.0**decade, "grid"), text(left - 7, y(10.0**decade) + 4, "end", power)]
    out += [text(x(step), height - 8, "middle", name) for step, name in ticks.items()]
    out += [line(threshold, "threshold")] if threshold is not None else []
    places = " ".join(f"{'L' if i else 'M'}{x(i):.1f} {y(value):.1f}" for i, value in enumerate(values))
    out.append(f"<path class='curve' d='{places}'/>")
    for i, (value, hint) in enumerate(zip(values, hints)):
        above = threshold is not None and (value is None or value > threshold)
        style = " ".join(["marked"] * (i == marked) + ["above"] * above) or "point"
        radius = 5 if i == marked else 1.6 if len(values) > 250 else 2.4
        out.append(f"<circle cx='{x(i):.1f}' cy='{y(value):.1f}' r='{radius}' class='{style}'><title>{escape(hint)}</title></circle>")
    return "".join([*out, "</svg>\n"])


def numbers(ops: list[Facts], threshold: float) -> str:
    lines = []
    for i, op in enumerate(ops):
        worst = [str(op["worst_token"] or 0), pcc_text(op["pcc"] if op["worst_token_pcc"] is None else op["worst_token_pcc"])]
        cells = [escape(op["name"]), ", ".join(op["types"]), pcc_text(op["pcc"]), *worst,
                 *(number(op[key]) for key in ("max_difference", "relative_error", "mean_ulps", "max_ulps"))]
        below = " class='below'" if op["pcc"] < threshold else ""
        lines.append(f"<tr id='op{i}'{below}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n")
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>\n{''.join(lines)}</tbody></table></div>"

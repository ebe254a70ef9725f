"""Line charts as SVG in a page that needs nothing else."""
import html
import math
from collections.abc import Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 260, 64, 40, 12
COLORS = ["#0a7d5a", "#c2452d", "#3563b8", "#8a6d00"]
STYLE = """:root { color-scheme: light dark } body { font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em }
section { display: flex; flex-wrap: wrap; gap: 1em } figure { margin: 0 } svg { max-width: 100% } svg text { font: 11px sans-serif; fill: currentColor }
table { border-collapse: collapse } td, th { border: 1px solid #8888; padding: .2em .6em; text-align: left } .axis { stroke: currentColor; opacity: .4 }"""


def ticks(least: float, most: float) -> list[float]:
    """Round numbers, about five."""
    if most <= least:
        return [least]
    step = 10 ** math.floor(math.log10((most - least) / 4))
    step *= next(by for by in (1, 2, 5, 10) if (most - least) / (step * by) <= 5)
    return [step * i for i in range(math.ceil(least / step), math.floor(most / step + 1e-9) + 1)]


def thinned(points: Points, most: int = 800) -> Points:
    return points if len(points) <= most else [points[i * (len(points) - 1) // (most - 1)] for i in range(most)]


def chart(title: str, x: str, y: str, series: dict[str, Points]) -> str:
    series = {name: thinned(points) for name, points in series.items() if points}
    every = [point for points in series.values() for point in points]
    if not every:
        return ""
    left, right = min(px for px, _ in every), max(px for px, _ in every)
    most = max(py for _, py in every) or 1

    def across(px: float) -> float:
        return LEFT + (px - left) / ((right - left) or 1) * (WIDTH - LEFT - 12)

    def up(py: float) -> float:
        return HEIGHT - BOTTOM - py / most * (HEIGHT - BOTTOM - TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html.escape(title)}">']
    for tick in ticks(0, most):
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 12}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
                     f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.10g}</text>')
    for tick in ticks(left, right):
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:.10g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x)}</text>')
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{across(px):.1f},{up(py):.1f}" for px, py in points)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{path}"/>'
                     f'<text x="{LEFT + 10}" y="{TOP + 12 + 14 * number}" style="fill:{color}">{html.escape(name)}</text>')
    return f"<figure><figcaption>{html.escape(title)}: {html.escape(y)}</figcaption>{''.join(parts)}</svg></figure>"


def shares(values: Sequence[float]) -> list[tuple[float, float]]:
    """Of sorted values, the percent that are no larger."""
    ordered = sorted(values)
    return [(value, 100 * (i + 1) / len(ordered)) for i, value in enumerate(ordered)]


def table(text: str) -> str:
    """Of a Markdown table."""
    rows = [[html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in text.splitlines() if not line.startswith("|---")]
    return "<table>" + "".join("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in row) + "</tr>"
                               for tag, row in zip(["th"] + ["td"] * len(rows), rows)) + "</table>"


def write_page(path: Path, title: str, text: str, tables: Sequence[str], charts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
                    f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>{''.join(tables)}<section>{''.join(charts)}</section></html>", encoding="utf-8")

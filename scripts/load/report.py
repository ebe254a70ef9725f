"""From samples of both servers to the lines of a table, each with what is wanted of it."""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from load.plots import chart, shares

OURS, PEER = "tessera", "llama-server"
Samples = dict[str, list[dict[str, Any]]]  # of each side, one a round


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest, as NumPy's."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True)
class Line:
    case: str
    what: str
    ours: float
    peer: float | None
    wanted: str = ""
    met: bool | None = None
    unit: str = ""

    def text(self) -> str:
        ratio = "–" if not self.peer else f"{self.ours / self.peer:.2f}"
        verdict = "–" if self.met is None else f"{self.wanted}: {'yes' if self.met else 'no'}"
        return f"| {self.case} | {self.what} | {shown(self.ours, self.unit)} | {'–' if self.peer is None else shown(self.peer, self.unit)} | {ratio} | {verdict} |"


def shown(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1000 * value:.0f} ms" if value < 10 else f"{value:.1f} s"
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} {unit}".strip() if value < 10 else f"{value:.0f} {unit}".strip()


def best(samples: list[dict[str, Any]], key: Callable[[dict[str, Any]], float], least: bool = False) -> float:
    """Of the rounds: a machine that others share makes them slower, never faster."""
    return (min if least else max)(key(sample) for sample in samples)


def rate_lines(case: str, samples: Samples, kept: dict[str, Samples]) -> list[Line]:
    ours, peer = samples[OURS], samples[PEER]
    rate: Callable[[dict[str, Any]], float] = lambda sample: sample["tokens_per_second"]
    mine, theirs = best(ours, rate), best(peer, rate)
    lines = []
    if "engine_tokens_per_second" in ours[0]:
        engine: Callable[[dict[str, Any]], float] = lambda sample: sample["engine_tokens_per_second"]
        engines = best(ours, engine), best(peer, engine)
        lines.append(Line(case, "the engines alone, tokens/s", *engines))
        ratio = engines[0] / engines[1]
        several = case != "1 client"
        share = best(ours, lambda sample: sample["tokens_per_second"] / sample["engine_tokens_per_second"])
        of_peer = best(peer, lambda sample: sample["tokens_per_second"] / sample["engine_tokens_per_second"])
        lines.insert(0, Line(case, "tokens/s, prompts and answers", mine, theirs, f"{ratio:.2f} × (aim: 2 ×)", mine >= ratio * theirs if several else None))
        lines.append(Line(case, "of the engine alone", share, of_peer, "90 %", share >= 0.9 if several else None, "%"))
    else:
        lines.append(Line(case, "tokens/s, prompts and answers", mine, theirs))
    greedy = kept.get(case.removesuffix(", sampled"))
    if greedy and case.endswith(", sampled"):
        of_greedy = mine / best(greedy[OURS], rate), theirs / best(greedy[PEER], rate)
        lines.append(Line(case, "of greedy's", *of_greedy, "85 %", of_greedy[0] >= 0.85, "%"))
    quiet = kept.get(case.removesuffix(", a processor busy"))
    if quiet and case.endswith("busy"):
        of_quiet = mine / best(quiet[OURS], rate), theirs / best(quiet[PEER], rate)
        lines.append(Line(case, "of the quiet machine's", *of_quiet, "60 %", of_quiet[0] >= 0.6, "%"))
    return lines


def latency_lines(case: str, samples: Samples) -> list[Line]:
    lines = []
    for name, key in (("first token", "ttft"), ("between tokens", "itl")):
        for percent in (50, 99):
            at: Callable[[dict[str, Any]], float] = lambda sample, key=key, percent=percent: percentile(sample[key], percent)  # type: ignore[misc]
            mine, theirs = (best(samples[side], at, least=True) for side in (OURS, PEER))
            met = mine <= theirs / 2 if case == "open loop" and percent == 99 else None
            lines.append(Line(case, f"{name}, p{percent}", mine, theirs, "half", met, "s"))
    return lines


def lines_of(case: str, samples: Samples, kept: dict[str, Samples]) -> list[Line]:
    """`kept`: of all cases, for those that are compared with another."""
    ours, peer = samples[OURS], samples[PEER]
    lowest: Callable[[str], tuple[float, float]] = lambda key: (best(ours, lambda s: s[key], least=True), best(peer, lambda s: s[key], least=True))
    if "ttft" in ours[0]:
        at_rate = [Line(case, "requests/s asked", ours[0]["asked_per_second"], peer[0]["asked_per_second"])] if "asked_per_second" in ours[0] else rate_lines(case, samples, kept)
        return at_rate + latency_lines(case, samples)
    if "gap_ratio" in ours[0]:
        ratio = lowest("gap_ratio")
        return [Line(case, "longest gap of a stream, times the median before", *ratio, "4 ×", ratio[0] <= 4), Line(case, "longest gap", *lowest("longest_gap"), unit="s"),
                Line(case, "a short question's first token meanwhile", *lowest("question_ttft"), unit="s"), Line(case, "the long prompt's first token", *lowest("long_seconds"), unit="s")]
    if "second_turn" in ours[0]:
        ratio = lowest("second_turn_ratio")
        return [Line(case, "4,000 tokens, cold", *lowest("cold"), unit="s"), Line(case, "second turn's first token", *lowest("second_turn"), unit="s"),
                Line(case, "second turn of cold", *ratio, "10 %", ratio[0] <= 0.1, "%"), Line(case, "7 users behind a known text of 2,000, of cold", *lowest("system_ratio"), unit="%")]
    held = best(ours, lambda s: s["held_ratio"]), best(peer, lambda s: s["held_ratio"])
    return [Line(case, "tokens/s of a stream held to it", best(ours, lambda s: s["held_per_second"]), best(peer, lambda s: s["held_per_second"])),
            Line(case, "of free answers' speed", *held, "97 %", held[0] >= 0.97, "%")]


def table(lines: list[Line]) -> str:
    return "\n".join(["| case | what | tessera | llama-server | ratio | wanted |", "|---|---|---|---|---|---|", *(line.text() for line in lines)])


def machine_lines(case: str, samples: Samples) -> list[Line]:
    return [Line(case, what, best(samples[OURS], lambda s, key=key: s[key] / scale), best(samples[PEER], lambda s, key=key: s[key] / scale))  # type: ignore[misc]
            for what, key, scale in (("memory, GB", "peak_resident", 1e9), ("descriptors at most", "most_descriptors", 1.0))]


def charts_of(case: str, samples: Samples) -> list[str]:
    of_each: Callable[[str], dict[str, Any]] = lambda key: {side: shares([value for s in samples[side] for value in s[key]]) for side in samples}
    if "ttft" in samples[OURS][0]:
        return [chart(f"{case}, first token", "seconds", "percent of requests", of_each("ttft")), chart(f"{case}, between tokens", "seconds", "percent of gaps", of_each("itl"))]
    if "gaps" in samples[OURS][0]:
        return [chart(case, "seconds since the long prompt was sent", "seconds between a stream's tokens",
                      {side: [(a, b) for a, b in samples[side][-1]["gaps"]] for side in samples})]
    return []

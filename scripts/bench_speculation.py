#!/usr/bin/env python3
"""Decoding with prompt lookup beside decoding without, by turns: texts that are edited and summarised, and one that is neither.

Stops when the tokens differ. Prints every sample and a table: tokens/s of both, best and median, and the rounds' ratios.

usage: scripts/bench_speculation.py MODEL [--weights TYPE] [--rounds N] [-n N] [--prompt-lookup N] [--json FILE]
       scripts/bench_speculation.py TARGET --draft MODEL [--draft-weights TYPE]        a draft model in place of prompt lookup
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/apps/cli/tessera"
PROMPTS = {"editing a letter": "edit_letter.txt", "editing a program": "edit_code.txt", "summarising a report": "summarise_report.txt",
           "going on with a story": "evaluation.txt"}


def run(command: list[Any]) -> tuple[list[str], float, int, int]:
    """The ids of an answer, and what the timing line says: tokens/s, tokens drafted, tokens of these that were right."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}: {done.stderr[-2000:]}")
    rate = re.search(r"decode \d+ tokens ([\d.]+) tokens/s", done.stderr)
    if rate is None:
        sys.exit(f"no rate in: {done.stderr[-2000:]}")
    drafts = re.search(r"drafted (\d+) tokens, right (\d+)", done.stderr)
    drafted, right = map(int, drafts.groups() if drafts else (0, 0))
    return done.stdout.split(), float(rate[1]), drafted, right


def measure(name: str, plain_command: list[Any], drafts: list[Any], rounds: int) -> dict[str, Any]:
    """One row: both ways `rounds` times, each first in every other round."""
    rates: dict[str, list[float]] = {"plain": [], "drafts": []}
    for turn in range(rounds):
        answers = {}
        for side in ("plain", "drafts") if turn % 2 == 0 else ("drafts", "plain"):
            answers[side], rate, drafted, right = run(plain_command + (drafts if side == "drafts" else []))
            rates[side].append(rate)
            if side == "drafts":
                counts = {"drafted": drafted, "right": right}
        if answers["plain"] != answers["drafts"]:
            sys.exit(f"{name}: the tokens differ")
    ratios = [b / a for a, b in zip(rates["plain"], rates["drafts"])]
    return {"row": name, "tokens": len(answers["plain"]), **counts, **rates, "ratios": ratios}


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| text | tokens | drafted, right | plain best / median | with drafts best / median | median of ratios | least ratio |",
             "|---|---|---|---|---|---|---|"]
    for r in results:
        best = {side: f"{max(r[side]):.1f} / {statistics.median(r[side]):.1f}" for side in ("plain", "drafts")}
        lines.append(f"| {r['row']} | {r['tokens']} | {r['drafted']}, {r['right']} | {best['plain']} | {best['drafts']} | "
                     f"{statistics.median(r['ratios']):.2f} | {min(r['ratios']):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint's directory or id")
    parser.add_argument("--weights", help="the weights' type; as stored if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-n", type=int, default=200, help="new tokens of each answer (default 200)")
    parser.add_argument("--prompt-lookup", type=int, default=16, help="tokens of a draft at most (default 16)")
    parser.add_argument("--draft", help="a draft model in place of prompt lookup")
    parser.add_argument("--draft-weights", help="its weights' type")
    parser.add_argument("--texts", default="", help="only texts whose name this regular expression finds")
    parser.add_argument("--json", type=Path, help="where every sample goes")
    options = parser.parse_args()
    drafts = ["--draft", options.draft] if options.draft else ["--prompt-lookup", options.prompt_lookup]
    if options.draft_weights:
        drafts += ["--draft-weights", options.draft_weights]
    flags = ["-t", options.threads, "-n", options.n, "--temp", 0, "--ignore-eos", "--print-ids"]
    if options.weights:
        flags += ["--weights", options.weights]
    results = []
    for name, file in PROMPTS.items():
        if re.search(options.texts, name):
            plain = [PROGRAM, "run", "-m", options.model, "-f", ROOT / "prompts" / file, *flags]
            results.append(measure(name, plain, drafts, options.rounds))
            one = results[-1]
            print(name, *(f"{side}: " + " ".join(f"{x:.1f}" for x in one[side]) for side in ("plain", "drafts")), sep="\n  ", flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    print(table(results))


if __name__ == "__main__":
    main()

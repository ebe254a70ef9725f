#!/usr/bin/env python3
"""tessera batch beside tessera bench --parallel: how much of what full rows can do many mixed requests get.

The requests' prompts are of 16 to 112 tokens and their answers of 16 to 112. A file of them is answered, and its first half: the difference is what the
second half takes, without loading and without the end, when rows run empty. `tessera bench` measures prompts and decodes of as many rows
in between. Prints each round and the ratio of tokens a second, best and median.

usage: scripts/bench_batch.py MODEL [--weights TYPE] [--rows N] [--requests N] [--rounds N] [-t N]
"""
import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/apps/cli/tessera"


def run(*command: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(PROGRAM), *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}: {done.stderr[-2000:]}")
    return done


def requests(count: int) -> list[tuple[int, int]]:
    """Tokens of each prompt and of its answer."""
    draw = random.Random(24)
    return [(draw.randint(16, 112), draw.randint(16, 112)) for _ in range(count)]


def batch_seconds(flags: list[Any], rows: int, sizes: list[tuple[int, int]], folder: Path) -> float:
    draw = random.Random(7)
    lines = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions",
              "body": {"prompt": [draw.randint(300, 5000) for _ in range(prompt)], "max_tokens": new, "temperature": 0, "ignore_eos": True}}
             for i, (prompt, new) in enumerate(sizes)]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "answers.jsonl").unlink(missing_ok=True)
    done = run("batch", *flags, "-i", folder / "requests.jsonl", "-o", folder / "answers.jsonl", "--max-num-seqs", rows, "-c", 256)
    told = re.search(r"(\d+) answered, 0 with errors; (\d+) tokens in ([\d.]+) s", done.stderr)
    if told is None or int(told[2]) != sum(new for _, new in sizes):
        sys.exit(f"not all is answered: {done.stderr[-2000:]}")
    return float(told[3])


def bench_rates(flags: list[Any], rows: int, prompt: int, new: int) -> tuple[float, float]:
    """Tokens a second of prompts, and of decodes behind a prompt."""
    prompts = run("bench", *flags, "-p", prompt, "-n", 0, "--parallel", rows, "-r", 2, "-o", "json")
    decodes = run("bench", *flags, "-p", 0, "-n", new, "-d", prompt, "--parallel", rows, "-r", 2, "-o", "json")
    first, second = (max(json.loads(done.stdout)[0]["samples_ts"]) for done in (prompts, decodes))
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--weights")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int)
    given = parser.parse_args()
    flags: list[Any] = ["-m", given.model]
    if given.weights:
        flags += ["--weights", given.weights]
    if given.threads:
        flags += ["-t", given.threads]
    sizes = requests(given.requests)
    half = given.requests // 2
    prompts, new = (sum(size[i] for size in sizes[half:]) for i in (0, 1))
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        for round_number in range(given.rounds):
            whole = batch_seconds(flags, given.rows, sizes, Path(name))
            prompt_rate, decode_rate = bench_rates(flags, given.rows, round(prompts / half), round(new / half))
            first = batch_seconds(flags, given.rows, sizes[:half], Path(name))
            ideal = prompts / prompt_rate + new / decode_rate
            ratios.append(ideal / (whole - first))
            print(f"round {round_number + 1}: {half} requests, {prompts} + {new} tokens: batch {whole - first:.2f} s, bench {ideal:.2f} s "
                  f"({prompt_rate:.0f} and {decode_rate:.0f} tokens/s); {ratios[-1]:.1%}", flush=True)
    print(f"{given.rows} rows: best {max(ratios):.1%}, median {statistics.median(ratios):.1%} of tessera bench --parallel")


if __name__ == "__main__":
    main()

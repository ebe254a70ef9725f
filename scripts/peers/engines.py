"""How each engine is asked for a row, and how its answer is read. Every measurement is a process of its own."""
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from peers import ROOT
from peers.models import llama_cpp
from peers.processes import busy_processor, run

PROGRAM = ROOT / "build/release/apps/cli/tessera"
PROBE = ROOT / "build/release/bench/machine_probe"
TIMERS = Path(__file__).parent


@dataclass
class Sample:
    rate: float  # tokens a second; of a start, starts a second
    peak_bytes: int
    command: list
    load_seconds: float | None = None  # where the engine tells


def probe(threads):
    return json.loads(run([PROBE, threads]).out)


def by_turns(sides, rounds, threads):
    """The samples of every side, a dict each: by turns in an order that changes from round to round, with what the machine reached around each.
    `sides`: functions that measure, by their names."""
    samples = {name: [] for name in sides}
    for turn in range(rounds):
        before = probe(threads)
        for name in list(sides)[turn % len(sides):] + list(sides)[:turn % len(sides)]:
            sample = sides[name]()
            after = probe(threads)
            samples[name].append(sample | {"probe": {key: (before[key] + after[key]) / 2 for key in before}})
            before = after
    return samples


def prepare(row, side, model):
    """A function that gives a sample of a row's work, done by a side. All files that it needs are there when this returns."""
    row = row.of(side)
    command, env, read = COMMANDS[side.engine](row, side.kind, model)
    words = [f"{key}={value}" for key, value in env.items()] + [str(word) for word in command]

    def measure():
        with busy_processor(row.busy):
            done = run(command, env)
        rate, load_seconds = read(row, done.out)
        return Sample(1 / done.seconds if row.start else rate, done.peak_bytes, words, load_seconds)

    return measure


def llama_bench_flags(row):
    """Tessera has llama-bench's."""
    flags = ["-o", "json", "-r", 1, "-p", row.prompt, "-n", row.generated, "-d", row.depth, "-t", row.threads]
    return [*flags, "--no-warmup"] if row.start else flags


def tessera(row, kind, model):
    command = [PROGRAM, "bench", "-m", model.folder, *llama_bench_flags(row), "--parallel", row.parallel, "--weights", kind]
    return command, model.env | ({"TESSERA_CPU_ISA": row.isa} if row.isa else {}), read_llama_bench


def read_llama_bench(_, out):
    result = json.loads(out)[0]
    return result["samples_ts"][0], result["load_ns"] / 1e9 if "load_ns" in result else None


def llama(row, kind, model):
    binaries, file = llama_cpp(), model.file(kind)
    if row.parallel == 1:
        return [binaries / "llama-bench", "-m", file, *llama_bench_flags(row)], {}, read_llama_bench
    return [binaries / "llama-batched-bench", "-m", file, "-c", row.parallel * (row.depth + row.generated), "-npp", row.depth, "-ntg", row.generated,
            "-npl", row.parallel, "-t", row.threads, "--output-format", "jsonl"], {}, read_batched_bench


def read_batched_bench(_, out):
    return next(json.loads(line)["speed_tg"] for line in out.splitlines() if line.startswith("{")), None


def timed(script, folder, row):
    sizes = ["--prompt", row.prompt, "--generated", row.generated, "--depth", row.depth, "--parallel", row.parallel, "--threads", row.threads]
    return [sys.executable, TIMERS / script, folder, *sizes], {}, read_timer


def read_timer(row, out):
    result = json.loads(out)
    return (row.prompt + row.generated) * row.parallel / result["seconds"], result["load_seconds"]


COMMANDS = {
    "tessera": tessera,
    "llama.cpp": llama,
    "ctranslate2": lambda row, kind, model: timed("time_ctranslate2.py", model.file(kind), row),
    "transformers": lambda row, _, model: timed("time_transformers.py", model.folder, row),
}

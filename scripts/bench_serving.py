#!/usr/bin/env python3
"""`tessera serve` beside llama.cpp's llama-server: the same requests of the same model, by turns, with probes of the machine around each.

Our own client sends token ids and takes its times as vLLM's benchmark does. Cases: 1, 8 and 32 clients, greedy and sampled, and beside that the engines
alone; requests that come at 70 % of what llama-server can do; a long prompt beside streams; conversations that go on; a busy processor; a JSON schema.
llama.cpp is fetched and built once, in Tessera's cache, as for scripts/bench_peers.py.

usage: .venv/bin/python scripts/bench_serving.py [--rounds N] [--cases REGEX] [--json FILE] [--plots FILE.html] [--page docs/performance.md]
prepared by: scripts/setup bench, and cmake --build --preset release --target tessera benches
"""
import argparse
import asyncio
import contextlib
import functools
import json
import re
import sys
from pathlib import Path
from typing import Any

import peers.report
from load import plots, report
from load.cases import CASES, NEW, PROMPT, Case, Sample
from load.servers import PROGRAM, ROOT, Running, Sizes, free_port, llama_command, serving, tessera_command
from peers import engines, models, processes

Kept = dict[str, report.Samples]


def engine_rate(side: str, model: models.Model, rows: int, threads: int) -> float:
    """Tokens/s of an engine without a server: as many rows, each a prompt and then an answer of the cases' lengths."""
    if side == report.OURS:
        flags = ["bench", "-m", model.folder, "-t", threads, "--parallel", rows, "-r", 1, "-o", "json"]
        prompts, answers = (json.loads(processes.run([PROGRAM, *flags, *more]).out)[0]["samples_ts"][0]
                            for more in (["-p", PROMPT, "-n", 0], ["-p", 0, "-n", NEW, "-d", PROMPT]))
    else:
        out = processes.run([models.llama_cpp() / "llama-batched-bench", "-m", model.file("BF16"), "-c", rows * (PROMPT + NEW), "-npp", PROMPT, "-ntg", NEW, "-npl", rows,
                             "-t", threads, "--output-format", "jsonl"]).out
        told = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
        prompts, answers = told["speed_pp"], told["speed_tg"]
    return float((PROMPT + NEW) / (PROMPT / prompts + NEW / answers))


async def measure(case: Case, side: str, model: models.Model, threads: int, rate: float) -> Sample:
    """On a server of its own."""
    sizes, port = Sizes(case.clients, case.tokens, threads), free_port()
    if side == report.OURS:
        command, ready = tessera_command(model.folder, port, sizes), "/ready"
    else:
        command, ready = llama_command(models.llama_cpp() / "llama-server", model.file("BF16"), port, sizes), "/health"
    async with serving(command, port, ready) as server:
        with processes.busy_processor(case.busy):
            sample = await case.run(port, side, rate)
        return sample | {"command": command} | machine(server)


def machine(server: Running) -> Sample:
    return {"peak_resident": max((t.resident for t in server.history), default=0), "most_descriptors": max((t.descriptors for t in server.history), default=0)}


def rounds_of(case: Case, rounds: int, model: models.Model, threads: int, rate: float) -> report.Samples:
    """A side's engine is measured in its turn."""
    def one(side: str) -> Sample:
        sample = asyncio.run(measure(case, side, model, threads, rate))
        return sample | ({"engine_tokens_per_second": engine_rate(side, model, case.clients, threads)} if case.engines else {})
    samples: report.Samples = engines.by_turns({side: functools.partial(one, side) for side in (report.OURS, report.PEER)}, rounds, threads)
    return samples


def saturation(kept: Kept) -> float:
    """Requests/s that llama-server can do at most."""
    rates = [s["requests_per_second"] for name in ("8 clients", "32 clients") if name in kept for s in kept[name][report.PEER]]
    if not rates:
        sys.exit("bench_serving: the open loop needs what 8 or 32 clients get: measure one of them first, into the same --json")
    return float(max(rates))


def about(kept: Kept) -> str:
    """What the machine itself reached meanwhile, and who was measured."""
    documents = [{"threads": 2, "samples": samples} for samples in kept.values()]
    return (f"{peers.report.about(documents)} Gemma 3 270M bfloat16 on 2 threads; llama-server of llama-cpp-python {models.make_tokenizers.VERSION}, built for this machine. "
            f"Prompts of {PROMPT} tokens, answers of {NEW}; best of the rounds.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds a case (default 3)")
    parser.add_argument("--cases", default="", help="only cases whose name this regular expression finds")
    parser.add_argument("--list", action="store_true", help="print the cases' names, and measure nothing")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench_serving.json",
                        help="where every sample goes; cases that are there from earlier runs stay (default build/bench_serving.json)")
    parser.add_argument("--plots", type=Path, default=ROOT / "build" / "bench_serving.html", help="a page with the tables and plots (default build/bench_serving.html)")
    parser.add_argument("--page", type=Path, help="a page between whose marks, for the kernels that this processor runs, the table is put")
    options = parser.parse_args()
    cases = [case for case in CASES if re.search(options.cases, case.name)]
    if options.list:
        print(*(case.name for case in cases), sep="\n")
        return
    kept: Kept = json.loads(options.json.read_text()) if options.json.exists() else {}
    with models.MODELS["gemma3-270m"]("gemma3-270m", True) as model, contextlib.suppress(KeyboardInterrupt):
        for case in cases:
            rate = 0.7 * saturation(kept) if case.needs_rate else 0
            kept[case.name] = rounds_of(case, options.rounds, model, options.threads, rate)
            options.json.write_text(json.dumps(kept))
            print(*(line.text() for line in report.lines_of(case.name, kept[case.name], kept)), sep="\n", flush=True)
    done = [case.name for case in CASES if case.name in kept]
    table = report.table([line for name in done for line in report.lines_of(name, kept[name], kept)])
    taken = report.table([line for name in done for line in report.machine_lines(name, kept[name])])
    print(f"{about(kept)}\n\n{table}\n\n{taken}")
    plots.write_page(options.plots, "tessera serve beside llama-server", about(kept), list(map(plots.table, (table, taken))),
                     [one for name in done for one in report.charts_of(name, kept[name])])
    if options.page:
        peers.report.write_page(options.page, f"{about(kept)}\n\n{table}", f"serving {peers.report.default_kernels(peers.report.cpuinfo('flags').split())}")


if __name__ == "__main__":
    main()

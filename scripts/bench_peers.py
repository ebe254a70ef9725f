#!/usr/bin/env python3
"""Tessera beside other engines: the same model, the same work, by turns, with probes of the machine around every run.

Fetches and builds llama.cpp from the llama-cpp-python sdist (once, in Tessera's cache), makes the models (random ones of full size are deleted
afterwards: up to 36 GB for a moment), and prints every command line and a table: best and median of each engine, the median of the rounds' ratios to
the best peer, and how much of the machine's limit is used. Every sample, probe and command line goes to a file.

usage: .venv/bin/python scripts/bench_peers.py [--rounds N] [--rows REGEX] [--json FILE] [--page docs/performance.md]
prepared by: scripts/setup bench
"""
import argparse
import dataclasses
import itertools
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import ROOT, engines, models, report
from peers.rows import ROWS, Layout, Row


def measure(row: Row, rounds: int, model: models.Model) -> dict[str, list[dict[str, Any]]]:
    """The samples of every side."""
    prepared = {side.name: engines.prepare(row, side, model) for side in [row.ours, *row.peers]}
    sides = {name: lambda one=one: dataclasses.asdict(one()) for name, one in prepared.items()}
    samples: dict[str, list[dict[str, Any]]] = engines.by_turns(sides, rounds, row.threads)
    return samples


def versions() -> str:
    return (f"llama.cpp of llama-cpp-python {models.make_tokenizers.VERSION}, built for this machine; CTranslate2 {version('ctranslate2')}; "
            f"transformers {version('transformers')} with torch {version('torch')}; all with their default flags. Tokens/s:")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds a row (default 5)")
    parser.add_argument("--rows", default="", help="only rows whose name this regular expression finds")
    parser.add_argument("--list", action="store_true", help="print the rows' names, and measure nothing")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench_peers.json",
                        help="where every sample goes; rows that are there from earlier runs stay, and stand in the table (default build/bench_peers.json)")
    parser.add_argument("--page", type=Path, help="a page between whose marks, for the kernels that this processor runs, the table is put")
    parser.add_argument("--keep", action="store_true", help="do not delete the random models: they are up to 36 GB each")
    options = parser.parse_args()
    kernels = report.default_kernels(report.cpuinfo("flags").split())
    rows = [row for row in ROWS if re.search(options.rows, row.name) and row.isa != kernels]  # what is forced is something else
    if options.list:
        print(*(row.name for row in rows), sep="\n")
        return
    kept = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name, of_model in itertools.groupby(rows, lambda row: row.model):
        with models.MODELS[name](name, options.keep) as model:
            layout = Layout.of(model.folder)
            for row in of_model:
                samples = measure(row, options.rounds, model)
                kept[row.name] = {"threads": row.threads, "samples": samples, "summary": report.summary(row, samples, layout)}
                options.json.write_text(json.dumps(kept, indent=1))
                print(report.table([kept[row.name]["summary"]]).splitlines()[-1], flush=True)
    documents = [kept[row.name] for row in ROWS if row.name in kept]
    text = f"{report.about(documents)} {versions()}\n\n{report.table([d['summary'] for d in documents])}"
    print(text)
    if options.page:
        report.write_page(options.page, text, kernels)


if __name__ == "__main__":
    main()

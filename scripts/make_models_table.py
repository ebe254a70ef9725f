#!/usr/bin/env python3
"""Writes MODELS.md from the saved runs of models/*/*/*/functional/runs. With --check it writes nothing, and fails when the page is another."""
import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Measured results

Written by `scripts/make_models_table.py` from the saved runs in `models/<org>/<name>/<system>/functional/runs`; not by hand. Each run carries a
hash of its content, and the page its first digits. [docs/evaluation.md](docs/evaluation.md) says what is measured, and how.

The checkpoints of full size, Gemma 3 4B, Llama 3.2 1B and Phi-3 Mini among them, could not be fetched where this was measured: these are small
real models of the same architectures, and no substitute. No row was measured on an n150: those of an "n150 (simulated)" come from TTNN's own kernels on a
functional simulator of the chip ([docs/simulated_card.md](docs/simulated_card.md)).

* **choices**: fed with what Hugging Face's float32 chose behind the prompt, token by token. **text**: fed with a given text, in one forward.
* **top-1**, **top-5**: how often Hugging Face's choice is our best, or among our five best. **ties**: places where Hugging Face's own best two
  are less than 0.001 apart, and how many of them we chose otherwise.
* **KL**: of the model's probabilities from Hugging Face's float32, in nats, from the 64 most probable tokens and all others as one.
* **perplexity**: of the fed tokens; of a model's own greedy choices it is always low.
* **tokens/s**: of decoding one row through Python's `generate()`; an indication only, other work may have run beside it.
* **memory**: what the process grew by when it loaded and ran the model.
"""
COLUMNS = ["checkpoint", "weights", "activations", "cache", "of", "prompt + new", "top-1", "top-5", "ties", "KL", "perplexity", "tokens/s", "memory", "date", "run"]


def percent(hits: int, total: int) -> str:
    return f"{100 * hits / total:.2f} %"


def row(run: dict[str, Any]) -> list[str]:
    types, total = run["precision"], run["total"]
    rate = f"{run['tokens_per_second']:.1f}" if run["tokens_per_second"] else "–"
    text = run["text"] if len(run["text"]) <= 40 else run["text"][:39] + "…"
    return [run["checkpoint"]["name"], types["weights"], types["activations"], types["cache"], f"{'text' if run['forced'] else 'choices'}: {text}",
            f"{run['prompt_tokens']} + {total}, {run['distinct']} distinct", percent(run["top1"], total), percent(run["top5"], total),
            f"{run['ties']}, {run['ties_missed']} otherwise", f"{run['kl']:.6f}", f"{run['perplexity']:.4f}", rate, f"{run['memory_bytes'] / 1e6:.0f} MB", run["date"],
            run["sha256"][:12]]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def section(folder: Path, system: str, runs: list[dict[str, Any]]) -> str:
    """Of one bring-up on one system: its table, and what its rows come from."""
    org, name = folder.parts[-4:-2]
    lines = [f"## {org}/{name} on the {system}", "", line(COLUMNS), line(["---"] * len(COLUMNS)), *(line(row(run)) for run in runs), ""]
    for facts in sorted({(run["checkpoint"]["name"], run["checkpoint"]["origin"], run["checkpoint"]["sha256"]) for run in runs}):
        lines.append("* checkpoint {}: {} Hash of its weights' files {}.".format(facts[0], facts[1].rstrip(".") + ".", facts[2][:12]))
    lines += [f"* machine: {machine}" for machine in sorted({", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run["machine"].items()) for run in runs})]
    lines += [f"* references: {maker}" for maker in sorted({run["reference"] for run in runs})]
    return "\n".join([*lines, "", "```", *(f"{run['command']}  # {run['sha256'][:12]}" for run in runs), "```", ""])


def page() -> str:
    from tessera.runs import read_run
    found: dict[tuple[Path, str], list[dict[str, Any]]] = {}
    for path in sorted((ROOT / "models").glob("*/*/*/functional/runs/*.json")):
        run = read_run(path)
        if Path(shlex.split(run["command"])[-1]).name != path.name:
            raise ValueError(f"{path}: is named otherwise than its command says")
        found.setdefault((path.parent.parent, run["system"]), []).append(run)
    return "\n".join([HEAD, *(section(folder, system, runs) for (folder, system), runs in found.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    try:
        text = page()
        if not args.check:
            (ROOT / "MODELS.md").write_text(text, encoding="utf-8")
        elif (ROOT / "MODELS.md").read_text(encoding="utf-8") != text:
            sys.exit("MODELS.md: is not what the saved runs give; scripts/make_models_table.py writes it")
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

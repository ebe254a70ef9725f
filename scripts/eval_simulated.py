#!/usr/bin/env python3
"""`tessera eval` on the simulated card, or with --twin on the cpu in its card mode, saved as a run for MODELS.md. For .venv-n150's Python, after
`make sim`; TT_METAL_SIMULATOR names the simulator (docs/simulated_card.md). A decode of a model of 270M takes about a minute."""
import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / os.environ.get("TESSERA_BUILD", "build/n150") / "python"
sys.path[:0] = [str(PACKAGE), str(ROOT / "tests/n150/sim")]

import simulated_card  # noqa: E402
from tessera.runs import about_checkpoint, write_run  # noqa: E402


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, help="a checkpoint's directory")
    parser.add_argument("--reference", required=True, help="a reference that eval.py --save_reference or tessera eval saved, .json")
    parser.add_argument("--weights", default="bfloat8_b")
    parser.add_argument("--twin", action="store_true", help="the cpu in its card mode, to stand beside the simulated card's row")
    parser.add_argument("--save_run", required=True)
    return parser.parse_args()


def main() -> None:
    args = parse()
    where = ["--device", "cpu", "--twin", "card"] if args.twin else ["--device", "n150", "--device-timeout", "0"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            environment = dict(os.environ) if args.twin else simulated_card.environment(simulated_card.find_simulator(), Path(folder))
        except simulated_card.Missing as error:
            sys.exit(str(error))
        environment["PYTHONPATH"] = str(PACKAGE)
        command = [sys.executable, "-m", "tessera", "eval", "-m", args.model, "--weights", args.weights, "--reference", args.reference, *where, "--json", "-"]
        start = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(done.stdout[done.stdout.index("{"):done.stdout.rindex("}") + 1])
    total, (maker, _, text) = found["total"], found["made_by"].partition(", of ")
    write_run(args.save_run, {
        "checkpoint": about_checkpoint(args.model, Path(args.model).expanduser()), "system": "cpu in its card mode" if args.twin else "n150 (simulated)",
        "device": "cpu" if args.twin else "n150", "machine": {"card": "none: " + ("the cpu" if args.twin else "Tenstorrent's functional simulator, which has no clock")},
        "precision": found["precision"], "reference": maker, "text": text, "forced": False, "prompt_tokens": found["prompt_tokens"], "total": total,
        "top1": round(found["top1"] * total), "top5": round(found["top5"] * total), "distinct": found["distinct"], "ties": found["ties"],
        "ties_missed": found["ties_missed"], "kl": found["kl_mean"], "perplexity": found["perplexity"], "tokens_per_second": None,
        "memory_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "command": shlex.join(["python", "scripts/eval_simulated.py", *sys.argv[1:]]).replace(str(Path.home()), "~")})
    print(f"{args.save_run}: top-1 {found['top1']:.2%}, top-5 {found['top5']:.2%}, KL {found['kl_mean']:.6f}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

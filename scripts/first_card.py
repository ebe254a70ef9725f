#!/usr/bin/env python3
"""The first session with a Tenstorrent n150, smallest first: each step tells what it does, what it should find, and what it found; the first
difference ends the session. The file of --json has no names of persons, machines or folders in it, and is made to be sent with an issue.

Run it with .venv-n150's Python, in a clone where this was done:
  scripts/setup test && scripts/setup n150 && cmake --preset n150 && cmake --build --preset n150
A card belongs to one process at a time: see first that no other has it."""
import argparse
import getpass
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHILDREN = ROOT / "tests/n150/sim"
sys.path[:0] = [str(CHILDREN), str(ROOT / "tests/n150")]

FORMAT = {"format": "tessera first card", "format_version": 1}
SIMULATED = CHILDREN / "first_card_simulated.json"  # this script's own, of the simulated card: what stands beside what is found
Model = tuple[str, str, str]  # of tests/n150's tiny models: name, weights, cache
TTNN, GRID, BANKS = "0.81.1", [8, 8], 12
GEMMA3, PHI3 = ("small-gemma3-window-16", "bfloat8_b", "bfloat8_b"), ("small-phi3-longrope-128", "bfloat16", "bfloat16")
NEAR_TIE = 0.25  # by as many logits the cpu may prefer its own choice
TOOLS = "see that the card is there (tt-smi -ls) and that no other process has it; if it hangs, reset it (tt-smi -r)"
SEND = "send the file of --json with an issue"
PARTS = "tessera compare --device cpu --device-b n150 names the op where they part (docs/compare.md); " + SEND


class Refused(Exception):
    """The session cannot begin; the text says what to do."""


class Different(Exception):
    """Something is not as it should be."""


class Skipped(Exception):
    """A step that this card, or this call, has not."""


def environment(card: str, folder: Path) -> dict[str, str]:
    """For the processes that open the card. Raises Refused."""
    if card == "silicon":
        for name in "TT_METAL_SIMULATOR", "TT_METAL_MOCK_CLUSTER_DESC_PATH", "TESSERA_TTNN_MODULE":
            if name in os.environ:
                raise Refused(f"{name} is set, so that no real card would be opened: unset it, or say --card simulated or --card mock")
        if not Path("/dev/tenstorrent").is_dir():
            raise Refused("there is no /dev/tenstorrent: see that the card is in its slot and that its driver, tt-kmd, is loaded; "
                          "without a card there are --card simulated and --card mock")
        return {**os.environ, "TT_METAL_OPERATION_TIMEOUT_SECONDS": os.environ.get("TT_METAL_OPERATION_TIMEOUT_SECONDS", "300")}
    import mock_card
    import simulated_card
    try:
        if card == "mock":
            return {**os.environ, **mock_card.environment(folder)}
        return simulated_card.environment(simulated_card.find_simulator(), folder)
    except (simulated_card.Missing, FileNotFoundError, ImportError) as error:
        raise Refused(f"no {card} card: {error}") from error


class Session:
    """One card; what is computed beside it is kept for the steps that follow."""

    def __init__(self, args: argparse.Namespace, child: Any, folder: Path) -> None:
        self.card, self.model, self.weights, self.child, self.folder = args.card, args.model, args.weights, child, folder
        self.module = os.environ.get("TESSERA_TTNN_MODULE", "ttnn")
        self.computes = args.card != "mock"
        self.known: dict[tuple[Model, str, str], dict[str, Any]] = {}
        self.begin({})

    def begin(self, simulated: dict[str, Any]) -> None:
        """A step, of which the simulated card has shown these figures."""
        self.simulated = simulated
        self.seen: dict[str, Any] = {}
        self.at_most: dict[str, float] = {}

    def run(self, script: str, *arguments: Any, timeout: int, say: Callable[[dict[str, Any]], str | None] | None = None, **environment: str) -> list[dict[str, Any]]:
        def seen(line: dict[str, Any]) -> None:
            if say and (text := say(line)):
                print("   ", text, flush=True)

        lines: list[dict[str, Any]]
        lines, wrong = self.child.run(script, *arguments, timeout=timeout, seen=seen, **environment)
        if wrong:
            raise Different(wrong)
        return lines

    def there(self) -> None:
        (self.seen,) = self.run("card.py", "found", timeout=120)
        if self.seen["ttnn"] != TTNN:
            raise Different(f"ttnn is {self.seen['ttnn']}, not {TTNN}")

    def opens(self) -> None:
        (self.seen,) = self.run("card.py", "opened", timeout=300)
        for name, value in ("arch", "WORMHOLE_B0"), ("grid", GRID), ("banks", BANKS):
            if self.seen[name] != value:
                raise Different(f"{name} is {self.seen[name]}, not {value}")

    def ops(self, group: str, *names: str) -> None:
        from bounds import bound

        def say(line: dict[str, Any]) -> str | None:
            if line["case"] == "closed":
                return None
            if not self.computes:
                return f"{line['case']:50} taken"
            name = line["case"]
            self.seen[name], self.at_most[name] = line["card"], bound(name)
            return f"{name:50} off float64 {self.beside(name)}"

        lines = self.run("ops.py", group, *names, timeout=3600, say=say)
        if lines[-1:] != [{"case": "closed"}] or len(lines) < 2:
            raise Different("not all of its calls were made")
        self.expect_within("float64")

    def beside(self, name: str) -> str:
        simulated = self.simulated.get(name)
        return (f"{self.seen[name]:8.5f}   at most {self.at_most[name]:8.5f}   simulated {'       -' if simulated is None else f'{simulated:8.5f}'}"
                f"{'' if self.seen[name] <= self.at_most[name] else '   <- DIFFERENT'}")

    def expect_within(self, exact: str) -> None:
        beyond = [name for name, value in self.seen.items() if not value <= self.at_most[name]]
        if beyond:
            raise Different(f"further from {exact} than it may be: {', '.join(beyond)}")

    def logits(self, model: Model, where: str, how: str) -> dict[str, Any]:
        """{step: rows of logits} of a two-layer model."""
        import numpy as np

        if (model, where, how) not in self.known:
            out = self.folder / f"{len(self.known)}.npz"
            self.run("models.py", *model, where, how, out, timeout=3600,
                     say=lambda line: f"{line['step']:26} {line['seconds']:7.2f} s" if where == self.module else None)
            with np.load(out) as steps:
                self.known[model, where, how] = dict(steps)
        return self.known[model, where, how]

    def conversation(self, model: Model) -> None:
        from bounds import TWINS
        from distance import off

        card = self.logits(model, self.module, "plain" if self.computes else "short")
        if not self.computes:
            return
        exact, twin = (self.logits(model, where, "plain") for where in ("float32", "twin"))
        for step, logits in exact.items():
            self.seen[step], self.at_most[step] = off(card[step], logits), TWINS * off(twin[step], logits)
            print(f"    {step:26} off float32 {self.beside(step)}", flush=True)
        self.expect_within("float32")

    def traced(self, model: Model) -> None:
        if not self.computes:
            raise Skipped("a mock card replays no recording")
        plain, traced = (self.logits(model, self.module, how) for how in ("plain", "trace"))
        self.seen = {step: int((traced[step].view("u4") != logits.view("u4")).sum()) for step, logits in plain.items()}
        other = [step for step, count in self.seen.items() if count]
        if other:
            raise Different(f"other bits than untraced: {', '.join(other)}")

    def checkpoint(self) -> None:
        if not self.model:
            raise Skipped("no --model")
        cpu, card = (self.run("greedy.py", self.model, self.weights, where, timeout=7200) for where in ("twin", self.module))
        config = json.loads((Path(self.model) / "config.json").read_text())
        self.seen = {"architecture": config["architectures"][0], "weights": self.weights, "cpu": [token["id"] for token in cpu]}
        if not self.computes:
            return
        self.seen["card"] = [token["id"] for token in card]
        print(f"    cpu  {self.seen['cpu']}\n    card {self.seen['card']}", flush=True)
        for place, (one, other) in enumerate(zip(cpu, card)):
            if one["id"] != other["id"]:
                if other["id"] == one["second"] and one["by"] < NEAR_TIE:
                    self.seen["near tie at"] = place
                    return
                raise Different(f"token {place} is {other['id']}, the cpu's {one['id']}, which it prefers by {one['by']:.3f}")

    def times(self) -> None:
        if self.card != "silicon":
            raise Skipped(f"a {self.card} card has no clock")
        if not self.model:
            raise Skipped("no --model")
        for trace in "0", "1":
            for row in self.run("tessera", "bench", "-m", self.model, "--device", "n150", "--weights", self.weights, "--trace", trace,
                                *"-p 128 -n 64 -r 3 -o jsonl".split(), timeout=7200, PYTHONPATH=str(ROOT / os.environ["TESSERA_BUILD"] / "python")):
                name = f"trace {trace}, " + (f"a prompt of {row['n_prompt']}" if row["n_prompt"] else f"{row['n_gen']} tokens one by one")
                self.seen[name] = {"tokens_per_second": row["samples_ts"], "label": "measured on silicon"}
                print(f"    {name:40} {row['avg_ts']:8.2f} tokens/s, measured on silicon", flush=True)


STEPS: dict[str, tuple[str, str, Callable[[Session], None], str]] = {  # name: (what it does, what it should find, how, what to do when it finds another thing)
    "there": ("what is there, without opening it", f"ttnn {TTNN}, one card and its driver", Session.there, "scripts/setup n150 installs TTNN; " + TOOLS),
    "open": ("opens the card, closes it and opens it again", f"a Wormhole of {GRID[0]} x {GRID[1]} cores with {BANKS} banks of memory", Session.opens, TOOLS),
    "bytes": ("tensors to the card and back", "the same bits", lambda s: s.ops("bytes"), TOOLS + "; " + SEND),
    "add": ("one program: add", "float64's sum within a rounding", lambda s: s.ops("tiny", "add"), TOOLS + "; " + SEND),
    "moves": ("the calls that move values and compute nothing", "float64's values exactly, but where bfloat8_b rounds again", lambda s: s.ops("moves"), SEND),
    "tiny": ("every call that computes, at the shapes of tiny models", "float64's values within the bound of each", lambda s: s.ops("tiny"), SEND),
    "full": ("a layer's calls at the widths of Gemma 3 4B and Phi-3 Mini", "float64's values within the bound of each", lambda s: s.ops("full"), SEND),
    "gemma3": ("a Gemma 3 of random weights: prompts, decodes, drafts, forks", "at most 1.5 times as far from float32 as the cpu in card mode", lambda s: s.conversation(GEMMA3), PARTS),
    "phi3": ("a Phi-3 of random weights, the same conversations", "at most 1.5 times as far from float32 as the cpu in card mode", lambda s: s.conversation(PHI3), PARTS),
    "gemma3-traced": ("the Gemma 3 again, its decodes recorded and replayed", "the same bits", lambda s: s.traced(GEMMA3), "leave --trace 1 away; " + SEND),
    "phi3-traced": ("the Phi-3 again, its decodes recorded and replayed", "the same bits", lambda s: s.traced(PHI3), "leave --trace 1 away; " + SEND),
    "checkpoint": ("a real checkpoint: 16 tokens of prompt, 8 greedy ones", "the tokens of the cpu in card mode, or another one at a near tie", Session.checkpoint, PARTS),
    "times": ("tokens a second, of prompts and of decodes, untraced and traced", "nothing yet: nobody has measured it", Session.times, SEND),
}


def simulated_figures() -> dict[str, dict[str, Any]]:
    """{step: {what: figure}}"""
    return {step["step"]: step["found"] for step in json.loads(SIMULATED.read_text())["steps"]} if SIMULATED.exists() else {}


def anonymous(value: Any, names: dict[str, str]) -> Any:
    """Without paths and without these names; what is no finite number becomes a text."""
    if isinstance(value, dict):
        return {key: anonymous(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [anonymous(part, names) for part in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    if not isinstance(value, str):
        return value
    for name, word in names.items():
        value = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", word, value)
    return re.sub(r"(?<![\w.])~?(?:/[^\s/:'\"()\[\],]+)+(/|\b)", "PATH", value)


def private_names(model: str | None) -> dict[str, str]:
    """What a text of TTNN's may tell of the machine, and the word that stands for it."""
    names = {model: "MODEL"} if model else {}
    for host in socket.gethostname(), platform.node():
        names |= {host: "HOST", host.split(".")[0]: "HOST"}
    return {name: word for name, word in {**names, getpass.getuser(): "USER", Path.home().name: "USER"}.items() if name}


class Report:
    """The file that is to be sent: whole after every step."""

    def __init__(self, path: Path | None, args: argparse.Namespace) -> None:
        self.path, self.names = path, private_names(args.model)
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip() or None
        self.content: dict[str, Any] = {**FORMAT, "card": args.card, "versions": {"commit": commit, "python": platform.python_version()}, "steps": [], "stopped_at": None}

    def add(self, step: dict[str, Any]) -> None:
        self.content["steps"].append(anonymous(step, self.names))
        if step["verdict"] == "different":
            self.content["stopped_at"] = step["step"]
        if self.path:
            beside = self.path.with_name(self.path.name + ".part")
            beside.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(beside, self.path)


def take(session: Session, name: str, simulated: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Runs one step and tells of it; returns what the file keeps."""
    does, should, how, then = STEPS[name]
    judged = session.computes or name in ("there", "open")
    print(f"\n{name}: {does}\n  should: {should if judged else 'be taken by TTNN; a mock card computes nothing'}", flush=True)
    session.begin(simulated.get(name, {}))
    start, wrong = time.monotonic(), None
    try:
        how(session)
        verdict = "as it should be" if judged else "taken"
    except Skipped as reason:
        verdict, wrong = "skipped", str(reason)
    except Different as difference:
        verdict, wrong = "different", str(difference)
    step: dict[str, Any] = {"step": name, "verdict": verdict, "seconds": round(time.monotonic() - start, 1), "expected": {"is": should}, "found": session.seen}
    step["expected"] |= {key: value for key, value in (("at most", session.at_most), ("simulated", session.simulated)) if value}
    if wrong:
        step["wrong"] = wrong
    if name in ("there", "open"):
        print("  found: ", ", ".join(f"{key} {value}" for key, value in session.seen.items()))
    print(f"  {verdict}{f': {wrong}' if wrong else ''} ({step['seconds']} s)", flush=True)
    if verdict == "different":
        print(f"  next: {then}", flush=True)
    return step


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--card", choices=["silicon", "simulated", "mock"], default="silicon",
                        help="a real one; the one of docs/simulated_card.md; or TTNN's mock, which computes nothing: calls are taken or refused")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=f"some of {', '.join(STEPS)}")
    parser.add_argument("--model", help="a real checkpoint's directory, for the last two steps")
    parser.add_argument("--weights", choices=["bfloat16", "bfloat8_b"], default="bfloat8_b", help="of --model; bfloat8_b if not given")
    parser.add_argument("--json", type=Path, help="write what is found to this file, after every step")
    args = parser.parse_args(arguments)
    if args.model and not (Path(args.model) / "config.json").is_file():
        parser.error(f"--model: {args.model} has no config.json: name the directory of a checkpoint")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 where a step differs, 2 where the session cannot begin."""
    args = parse(arguments)
    os.environ.setdefault("TESSERA_BUILD", "build/n150")
    with tempfile.TemporaryDirectory() as folder:
        try:
            (Path(folder) / "card").mkdir()
            told = environment(args.card, Path(folder) / "card")
        except Refused as reason:
            print(f"first_card: {reason}", file=sys.stderr)
            return 2
        from child import Child

        session, report = Session(args, Child(told), Path(folder)), Report(args.json, args)
        simulated = simulated_figures()
        print({"silicon": "A real card.", "simulated": "A simulated card: nothing here is measured on silicon.",
               "mock": "A mock card: calls are checked, nothing is computed."}[args.card])
        for name in STEPS:
            if name not in args.steps:
                continue
            step = take(session, name, simulated)
            report.add(step)
            if step["verdict"] == "different":
                print(f"\nstopped at {name}{f'; {args.json} tells it all' if args.json else ''}")
                return 1
    print("\nno difference found")
    return 0


if __name__ == "__main__":
    sys.exit(main())

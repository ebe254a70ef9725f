"""scripts/first_card.py on the simulated card, on the mock card, and stopped by what is planted."""
import getpass
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import mock_card
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts/first_card.py"
spec = importlib.util.spec_from_file_location("first_card", SCRIPT)
first_card = importlib.util.module_from_spec(spec)
spec.loader.exec_module(first_card)

# A module in TTNN's place with one call changed, as faults.py changes calls of the device.
PLANTED = """
import sys
import ttnn
from faults import Changed

def change(original):
    {body}

sys.modules[__name__] = Changed(ttnn, "{call}", change)
"""


def run(folder, *arguments, **environment):
    """Returns (exit code, what it printed, the file that it wrote or None)."""
    file = folder / "first_card.json"
    cards = "TT_METAL_MOCK_CLUSTER_DESC_PATH", "TT_METAL_RUNTIME_ROOT", "TT_METAL_CACHE", *(() if "simulated" in arguments else ["TT_METAL_SIMULATOR"])
    inherited = {name: value for name, value in os.environ.items() if name not in cards}
    done = subprocess.run([sys.executable, SCRIPT, "--json", file, *arguments], env={**inherited, **environment}, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr, json.loads(file.read_text()) if file.exists() else None


def plant(folder, call, body):
    (folder / "planted_ttnn.py").write_text(PLANTED.format(call=call, body=body))
    return {"TESSERA_TTNN_MODULE": "planted_ttnn", "PYTHONPATH": str(folder)}


def verdicts(file):
    return {step["step"]: step["verdict"] for step in file["steps"]}


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    try:
        mock_card.environment(tmp_path_factory.mktemp("mock"))
    except (ImportError, FileNotFoundError) as error:
        pytest.skip(f"TTNN or the assembler is missing: run scripts/setup n150 ({error})")


def test_the_mock_takes_every_step_that_it_has(mock, tmp_path):
    steps = [name for name in first_card.STEPS if name != "full"]
    code, printed, file = run(tmp_path, "--card", "mock", "--steps", *steps)
    assert code == 0, printed
    assert (file["format"], file["format_version"], file["card"], file["stopped_at"]) == ("tessera first card", 1, "mock", None)
    assert verdicts(file) == {"there": "as it should be", "open": "as it should be",
                              **dict.fromkeys(("bytes", "add", "moves", "tiny", "gemma3", "phi3"), "taken"),
                              **dict.fromkeys(("gemma3-traced", "phi3-traced", "checkpoint", "times"), "skipped")}
    assert all(step["found"] == {} for step in file["steps"] if step["step"] not in ("there", "open"))  # values mean nothing there
    assert "measured on silicon" not in printed + json.dumps(file)


def test_a_call_that_is_refused_stops_the_session_and_no_name_gets_into_the_file(mock, tmp_path):
    spoken = f"refused for {getpass.getuser()} on {socket.gethostname()} in {tmp_path}/weights and ~/a_folder, by /usr/lib/libttnn.so:12"
    code, printed, file = run(tmp_path, "--card", "mock", "--steps", "open", "add", "moves", "tiny", "gemma3",
                              **plant(tmp_path, "rms_norm", f"def refuse(*tensors, **options):\n        raise RuntimeError({spoken!r})\n    return refuse"))
    assert code == 1
    assert verdicts(file) == {"open": "as it should be", "add": "taken", "moves": "taken", "tiny": "different"}
    assert file["stopped_at"] == "tiny" and "stopped at tiny" in printed and "next: send the file" in printed
    last = file["steps"][-1]["wrong"]
    assert "refused for USER on HOST in PATH and PATH, by PATH:12" in last
    for private in getpass.getuser(), socket.gethostname(), str(Path.home()), str(tmp_path), str(SCRIPT.parents[1]), "a_folder":
        assert private not in last


def test_a_session_does_not_begin_where_there_is_no_such_card(tmp_path):
    for name in "TT_METAL_SIMULATOR", "TT_METAL_MOCK_CLUSTER_DESC_PATH", "TESSERA_TTNN_MODULE":
        code, printed, file = run(tmp_path, **{name: "some"})
        assert (code, file) == (2, None) and f"{name} is set, so that no real card would be opened" in printed
    if not Path("/dev/tenstorrent").exists():
        code, printed, file = run(tmp_path)
        assert (code, file) == (2, None) and "there is no /dev/tenstorrent" in printed
    code, printed, _ = run(tmp_path, "--card", "simulated", TT_METAL_SIMULATOR=str(tmp_path / "none.so"))
    assert code == 2 and "which is no file" in printed


class Canned:
    """Children that print what a test gives them."""

    environment = {}

    def __init__(self, lines, wrong=None):
        self.lines, self.wrong = lines, wrong

    def run(self, script, *arguments, timeout, seen, **environment):
        lines = self.lines(script, *arguments) if callable(self.lines) else self.lines
        for line in lines:
            seen(line)
        return lines, self.wrong


def session(tmp_path, child, card="silicon", **options):
    return first_card.Session(first_card.parse(["--card", card, *options.get("arguments", [])]), child, tmp_path)


@pytest.mark.parametrize("found, verdict", [(0.0019, "as it should be"), (0.0043, "different"), (float("nan"), "different"), (float("inf"), "different")])
def test_a_figure_beyond_its_bound_is_a_difference(tmp_path, capsys, found, verdict):
    on_card = session(tmp_path, Canned([{"case": "rms_norm", "card": found}, {"case": "add", "card": 0.0018}, {"case": "closed"}]))
    step = first_card.take(on_card, "tiny", {"tiny": {"rms_norm": 0.00206}})
    assert (step["verdict"], step["expected"]["simulated"]) == (verdict, {"rms_norm": 0.00206})
    assert step["expected"]["at most"] == {"rms_norm": 0.0042, "add": 0.0037}
    assert ("further from float64 than it may be: rms_norm" in step.get("wrong", "")) == (verdict == "different")
    assert "simulated  0.00206" in capsys.readouterr().out
    json.dumps(first_card.anonymous(step, {}), allow_nan=False)


def test_a_child_that_does_not_end_or_leaves_cases_out_is_a_difference(tmp_path):
    assert first_card.take(session(tmp_path, Canned([], "no end within 3600 s")), "tiny", {})["wrong"] == "no end within 3600 s"
    assert first_card.take(session(tmp_path, Canned([{"case": "add", "card": 0.0}])), "add", {})["verdict"] == "different"
    assert first_card.take(session(tmp_path, Canned([{"case": "closed"}])), "add", {})["verdict"] == "different"


@pytest.mark.parametrize("changed, verdict", [
    ({}, "as it should be"), ({"grid": [8, 7]}, "different"), ({"banks": 11}, "different"), ({"arch": "BLACKHOLE"}, "different")])
def test_another_card_than_an_n150_is_a_difference(tmp_path, changed, verdict):
    card = {"kind": "N150", "arch": "WORMHOLE_B0", "grid": [8, 8], "banks": 12, "free_bytes": 1, **changed}
    assert first_card.take(session(tmp_path, Canned([card])), "open", {})["verdict"] == verdict


@pytest.mark.parametrize("other, by, verdict", [(5, 3.0, "as it should be"), (9, 0.2, "as it should be"), (9, 0.3, "different"), (8, 0.2, "different")])
def test_another_token_than_the_cpus_is_a_difference_but_at_a_near_tie(tmp_path, other, by, verdict):
    (tmp_path / "config.json").write_text('{"architectures": ["Gemma3ForCausalLM"]}')

    def tokens(script, model, weights, where):
        return [{"id": 5, "second": 9, "by": by}] if where == "twin" else [{"id": other, "second": 1, "by": 1.0}]

    step = first_card.take(session(tmp_path, Canned(tokens), arguments=["--model", str(tmp_path)]), "checkpoint", {})
    assert step["verdict"] == verdict
    assert "MODEL" not in json.dumps(step) and str(tmp_path) not in json.dumps(step["found"])


@pytest.mark.parametrize("off, flipped, verdicts", [
    (0.014, 0, ["as it should be", "as it should be"]), (0.016, 0, ["different", "as it should be"]), (0.014, 1, ["as it should be", "different"])])
def test_logits_too_far_from_float32_or_other_bits_when_replayed_are_a_difference(tmp_path, off, flipped, verdicts):
    exact = np.random.default_rng(1).standard_normal((3, 50)).astype(np.float32)
    replayed = np.float32(1 + off) * exact
    replayed.view(np.uint32)[2, 7] ^= flipped
    logits = {("float32", "plain"): exact, ("twin", "plain"): np.float32(1.01) * exact, ("ttnn", "plain"): np.float32(1 + off) * exact,
              ("ttnn", "trace"): replayed}

    def child(script, name, weights, cache, where, how, out):
        np.savez(out, decode=logits[where, how])
        return [{"step": "decode", "seconds": 1.0}]

    on_card = session(tmp_path, Canned(child))
    steps = [first_card.take(on_card, name, {}) for name in ("phi3", "phi3-traced")]
    assert [step["verdict"] for step in steps] == verdicts
    assert steps[0]["found"] == pytest.approx({"decode": off}, rel=1e-3)
    assert steps[0]["expected"]["at most"] == pytest.approx({"decode": 0.015}, rel=1e-3)
    assert steps[1]["found"] == {"decode": flipped}


@pytest.mark.parametrize("card, verdict", [("silicon", "as it should be"), ("simulated", "skipped")])
def test_times_are_measured_on_silicon_only(tmp_path, card, verdict):
    (tmp_path / "config.json").write_text("{}")
    rows = [{"n_prompt": 128, "n_gen": 0, "samples_ts": [700.0], "avg_ts": 700.0}, {"n_prompt": 0, "n_gen": 64, "samples_ts": [20.0], "avg_ts": 20.0}]
    step = first_card.take(session(tmp_path, Canned(rows), card, arguments=["--model", str(tmp_path)]), "times", {})
    assert step["verdict"] == verdict
    assert list(step["found"]) == ([f"trace {trace}, {what}" for trace in (0, 1) for what in ("a prompt of 128", "64 tokens one by one")]
                                   if card == "silicon" else [])
    assert all(found["label"] == "measured on silicon" for found in step["found"].values())


@pytest.mark.simulator
def test_the_simulated_card_shows_no_difference(simulated, tmp_path, measured):
    code, printed, file = run(tmp_path, "--card", "simulated", "--steps", "there", "open", "bytes", "add", "moves", "gemma3")
    measured("\n".join(line for line in printed.splitlines() if not line.startswith("    ")))
    assert code == 0, printed
    assert file["card"] == "simulated" and set(verdicts(file).values()) == {"as it should be"}
    assert len(file["steps"][-1]["found"]) > 15 and "measured on silicon" not in json.dumps(file)


@pytest.mark.simulator
def test_a_planted_difference_stops_the_simulated_card(simulated, tmp_path):
    code, printed, file = run(tmp_path, "--card", "simulated", "--steps", "open", "bytes", "add", "moves",
                              **plant(tmp_path, "add", "return lambda a, b, **options: original(a, a, **options)"))
    assert code == 1 and file["stopped_at"] == "add" and list(verdicts(file)) == ["open", "bytes", "add"]
    assert file["steps"][-1]["wrong"] == "further from float64 than it may be: add" and "<- DIFFERENT" in printed

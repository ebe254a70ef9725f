"""Real small models on the place-holder of TTNN: what the card would compute, beside the cpu device and from the command and build_model's engine."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import folders

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = Path(os.environ.get("TESSERA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tessera") / "weights"
PROMPT, SCORED = 88, 512


def folder_of(name):
    if not (WEIGHTS / name / "config.json").exists():
        pytest.skip(f"{WEIGHTS / name} is not there: `make test` makes it")
    return WEIGHTS / name


def open_model(core, device, folder, **precision):
    loaded = core.load_model(str(folder), device, **precision)
    cache = core.Cache(device, loaded.model.spec.cache, dtype=loaded.options.cache, max_tokens=2048, max_sequences=1)
    return loaded, core.Generator(loaded.model, device, cache), cache.create()


def choices(core, folder, prompt, count, **precision):
    """What the cpu goes on with, greedily, and its logits: the reference that the others are forced to follow."""
    loaded, generator, sequence = open_model(core, core.open_device("cpu"), folder, **precision)
    rows, tokens = [], prompt
    while len(rows) < count:
        sequence.append(tokens)
        rows.append(generator.forward([(sequence, 1)])[0])
        tokens = rows[-1].argmax(keepdims=True).astype(np.int32)
    return np.array([row.argmax() for row in rows], np.int32), np.array(rows)


def forced(core, device, folder, prompt, tokens, **precision):
    """The logits where each of `tokens` is chosen."""
    loaded, generator, sequence = open_model(core, device, folder, **precision)
    sequence.append(prompt[:-1])
    generator.forward([(sequence, 0)])
    sequence.append(np.concatenate([prompt[-1:], tokens[:-1]]))
    return generator.forward([(sequence, len(tokens))])


def margins(exact, chosen):
    """By how much float32 prefers its own choice to this one."""
    return exact.max(axis=1) - exact[np.arange(len(exact)), chosen]


@pytest.mark.slow
@pytest.mark.parametrize("name, weights", [("gemma3-270m", "bfloat16"), ("phi3-smollm2", "bfloat8_b")])
def test_it_chooses_as_the_cpu_chooses(core, measured, name, weights):
    folder = folder_of(name)
    text = (ROOT / "prompts/perplexity.txt").read_text(encoding="utf-8")
    prompt = np.array(core.Tokenizer.load(str(folder / "tokenizer.json")).encode(text)[:PROMPT], np.int32)
    tokens, exact = choices(core, folder, prompt, SCORED, weights=weights, activations="float32")
    twin = forced(core, core.open_device("cpu"), folder, prompt, tokens, weights=weights).argmax(axis=1)
    card = forced(core, core.open_device("n150", module="numpy_ttnn"), folder, prompt, tokens, weights=weights).argmax(axis=1)
    same = card == twin
    missed = np.maximum(margins(exact, card), margins(exact, twin))[~same]
    measured(f"{name}, {weights}: {same.mean():.2%} of {SCORED} choices equal, the others within {missed.max(initial=0):.3f} in float32; float32's own: "
             f"{(card == tokens).mean():.2%}, the cpu's {(twin == tokens).mean():.2%}")
    assert same.mean() >= 0.98
    assert missed.max(initial=0) < 0.25


def on_the_place_holder(*arguments):
    environment = {**os.environ, "TESSERA_TTNN_MODULE": "numpy_ttnn",
                   "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in (Path(os.environ["TESSERA_BUILD"]) / "python", "tests/n150", "tests/python"))}
    return subprocess.run([sys.executable, "-m", "tessera", *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300)


def test_the_command_runs_on_the_card(core):
    folder = folder_of("phi3-smollm2")
    flags = ("-m", folder, "-p", "The capital of France is", "-n", 12, "--temp", 0, "--weights", "bfloat16", "-c", 512)
    card, cpu = on_the_place_holder("run", "--device", "n150", *flags), on_the_place_holder("run", *flags)
    assert (card.returncode, card.stdout) == (0, cpu.stdout), card.stderr
    assert "Paris" in card.stdout


def test_the_command_refuses_what_the_card_does_not_hold_in_plan_s_words():
    folder = str(folders() / "phi3-mini-without-longrope")
    code = f"import tessera; c = tessera.Checkpoint.open({folder!r}); tessera._core.expect_fits('n150', c, 131072, weights='bfloat16')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / os.environ["TESSERA_BUILD"] / "python")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert "ResourceError" in last and "do not fit the n150" in last and "it fits with a context of 1" in last, done.stderr


@pytest.mark.slow
def test_a_second_load_takes_the_tiles_that_the_first_kept(core, tmp_path, monkeypatch):
    folder = folder_of("phi3-smollm2")
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path))
    monkeypatch.setenv("TESSERA_PACKED_CACHE", "1")
    tokens = np.arange(1, 9, dtype=np.int32)

    def logits():
        return forced(core, core.open_device("n150", module="numpy_ttnn"), folder, tokens[:4], tokens[4:], weights="bfloat8_b")

    packed = logits()
    kept, = (tmp_path / "packed").glob("*.weights")
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(logits(), packed)
    assert kept.stat().st_mtime_ns == written
    with open(kept, "r+b") as file:  # what it holds is what is used
        file.seek(kept.stat().st_size // 2)
        file.write(bytes(4096))
    assert (logits() != packed).any()

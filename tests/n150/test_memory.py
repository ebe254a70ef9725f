"""`tessera plan` against TTNN's own allocator on the mock card: whole models and their caches, and what a prompt's largest piece and a decode of all
sequences take beside them."""
import contextlib
import json
import os

import pytest
from conversations import Talk
from tiny_models import folders, model
from unfilled import PeakTtnn

PAGE = 64
MODELS = {"gemma": "gemma3-4b", "phi": "phi3-mini"}
# Model, weights, cache, context, sequences. Those that fit and those that do not.
LOADS = [("gemma", "bfloat8_b", "bfloat8_b", 4096, 1), ("gemma", "bfloat8_b", "bfloat8_b", 4096, 32), ("gemma", "bfloat8_b", "bfloat8_b", 70000, 8),
         ("gemma", "bfloat8_b", "bfloat16", 131072, 1), ("gemma", "bfloat8_b", "bfloat16", 20000, 8), ("gemma", "bfloat8_b", "bfloat16", 1024, 32),
         ("gemma", "bfloat16", "bfloat16", 4096, 1), ("gemma", "bfloat16", "bfloat8_b", 30000, 4), ("gemma", "bfloat4_b", "bfloat8_b", 131072, 1),
         ("gemma", "bfloat4_b", "bfloat16", 10000, 16), ("phi", "bfloat16", "bfloat16", 4096, 1), ("phi", "bfloat16", "bfloat16", 11900, 1),
         ("phi", "bfloat16", "bfloat8_b", 22500, 1), ("phi", "bfloat16", "bfloat8_b", 600, 32), ("phi", "bfloat8_b", "bfloat16", 20000, 1),
         ("phi", "bfloat8_b", "bfloat8_b", 37500, 1), ("phi", "bfloat8_b", "bfloat8_b", 1100, 32), ("phi", "bfloat4_b", "bfloat8_b", 45000, 1),
         ("phi", "bfloat4_b", "bfloat16", 3000, 8),
         ("gemma", "bfloat16", "bfloat16", 131072, 2), ("gemma", "bfloat8_b", "bfloat16", 8192, 32), ("gemma", "bfloat8_b", "bfloat8_b", 90000, 8),
         ("phi", "bfloat16", "bfloat16", 14000, 1), ("phi", "bfloat16", "bfloat8_b", 27000, 1), ("phi", "bfloat8_b", "bfloat8_b", 1500, 32)]


def plan(core, name, tmp_path, *flags):
    facts = tmp_path / "plan.json"
    core.cli_main([os.fsencode(str(word)) for word in ("tessera", "plan", "-m", folders() / MODELS[name], *flags, "--json", facts)])
    return json.loads(facts.read_text())


def talk_of(core, device, name, weights, cache, context, sequences):
    whole = -(-context // PAGE) * PAGE
    return Talk(core, device, model(MODELS[name]), max_tokens=sequences * (whole - PAGE + 1), max_sequences=sequences, weights=weights, cache=cache)


def use(talk, sequences):
    """A prompt's largest piece, then a decode of all sequences."""
    first = talk.cache.create()
    talk.say((first, 512, 1))
    talk.say(*[(sequence, 1, 1) for sequence in [first, *[talk.cache.fork(first) for _ in range(sequences - 1)]]])


@pytest.mark.parametrize("name, weights, cache, context, sequences", LOADS)
def test_plan_is_within_2_percent_of_the_allocator_and_refuses_what_it_refuses(core, ttnn, card, tmp_path, measured, name, weights, cache, context,
                                                                               sequences):
    facts = plan(core, name, tmp_path, "--weights", weights, "--cache", cache, "-c", context, "--sequences", sequences)
    watched = PeakTtnn(ttnn, card)
    device = core.open_device(card, module="peak_ttnn")
    with contextlib.ExitStack() as refused:
        if not facts["fits"]:
            refused.enter_context(pytest.raises(core.ResourceError, match="the card's memory is full"))
        use(talk_of(core, device, name, weights, cache, context, sequences), sequences)
    if facts["fits"]:
        measured(f"{name} {weights} {cache} {sequences} x {context}: planned {facts['bytes']['all'] / 1e9:.3f} GB, taken {watched.peak / 1e9:.3f}")
        assert facts["bytes"]["all"] == pytest.approx(watched.peak, rel=0.02)


# The longest caches that TTNN 0.81.1 took for these models without any room for activations and, Gemma's, without windows.
@pytest.mark.slow
@pytest.mark.parametrize("name, weights, cache, sequences, most", [
    ("gemma", "bfloat8_b", "bfloat16", 1, 52864), ("gemma", "bfloat8_b", "bfloat8_b", 1, 99456), ("gemma", "bfloat8_b", "bfloat16", 32, 1536),
    ("gemma", "bfloat8_b", "bfloat8_b", 32, 3072), ("gemma", "bfloat16", "bfloat16", 1, 26624), ("gemma", "bfloat16", "bfloat8_b", 1, 50304),
    ("gemma", "bfloat16", "bfloat16", 32, 768), ("gemma", "bfloat16", "bfloat8_b", 32, 1536), ("phi", "bfloat16", "bfloat16", 1, 13184),
    ("phi", "bfloat16", "bfloat8_b", 1, 24960), ("phi", "bfloat16", "bfloat16", 32, 384), ("phi", "bfloat16", "bfloat8_b", 32, 768),
    ("phi", "bfloat8_b", "bfloat16", 1, 22144), ("phi", "bfloat8_b", "bfloat8_b", 1, 41600), ("phi", "bfloat8_b", "bfloat16", 32, 640),
    ("phi", "bfloat8_b", "bfloat8_b", 32, 1280)])
def test_the_longest_context_that_plan_names_is_taken_and_is_long(core, ttnn, card, tmp_path, measured, name, weights, cache, sequences, most):
    rows = plan(core, name, tmp_path, "--weights", weights, "-c", 64)["longest_context"]
    longest = next(row[cache] for row in rows if row["sequences"] == sequences)
    measured(f"{name} {weights} {cache}, {sequences} sequences: longest context {longest}, {longest / most:.0%} of a bare cache without windows")
    assert longest >= 0.9 * most
    PeakTtnn(ttnn, card, watches=False)
    use(talk_of(core, core.open_device(card, module="peak_ttnn"), name, weights, cache, longest, sequences), sequences)

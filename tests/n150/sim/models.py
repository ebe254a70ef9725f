"""A two-layer model on a device, through every kind of Batch: run as a child process of test_models.py and test_faults.py.
`python models.py MODEL WEIGHTS CACHE WHERE HOW OUT.npz [FAULT]` writes each step's logits [rows, vocab] under the step's name. WHERE is "float32" or "twin"
(the cpu device: exact for the weights as the card's tiles hold them, or in its card mode), or the module of the n150's device, "ttnn" or "numpy_ttnn";
HOW is "plain", "trace" (decodes are recorded), or "short" (fewer steps, not recorded)."""
import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2] / os.environ["TESSERA_BUILD"] / "python"), str(HERE.parent), str(HERE.parents[1] / "python")]

import numpy as np  # noqa: E402
from conversations import Talk  # noqa: E402
from faults import plant, spoil  # noqa: E402
from tessera import _core as core  # noqa: E402
from tiny_models import model, rounded_as_on_the_card  # noqa: E402


def conversation(talk, how, say=lambda line: None):
    """{step: logits of the rows asked for}"""
    steps = {}

    def step(name, *parts):
        start = time.monotonic()
        rows = talk.say(*parts)
        say({"step": name, "seconds": round(time.monotonic() - start, 2)})
        steps[name] = np.concatenate([steps[name], rows]) if name in steps else rows

    if how == "short":
        first, second = talk.cache.create(), talk.cache.create()
        step("prompt", (first, 70, 8))
        step("prompt", (second, 33, 8))
        for _ in range(3):
            step("decode", (first, 1, 1), (second, 1, 1))
        return steps

    one, twenty, odd, hundred, long, *others = (talk.cache.create() for _ in range(32))
    step("prompt of 1", (one, 1, 1))
    step("prompt of 20", (twenty, 20, 20))
    step("prompt of 33", (odd, 33, 33))
    step("prompt of 100", (hundred, 100, 4))
    step("prompt of 300", (long, 300, 4))  # past the window, and past LongRoPE's boundary
    for _ in range(6):
        step("decode of 1", (hundred, 1, 1))
    for _ in range(3):
        step("decode of 3", (one, 1, 1), (hundred, 1, 1), (long, 1, 1))
    step("decode of 1 again", (hundred, 1, 1))
    step("requests in one call", (others[0], 40, 2), (one, 1, 1), (others[1], 5, 5))
    step("a draft", (hundred, 5, 5))
    talk.cache.truncate(hundred, len(hundred) - 3)
    step("behind the draft", (hundred, 1, 1))
    fork = talk.cache.fork(long)
    step("a fork and its sibling", (fork, 1, 1), (long, 1, 1))
    step("a fork and its sibling", (fork, 1, 1), (long, 1, 1))
    step("a second turn", (long, 60, 8))
    step("a second turn", (twenty, 130, 8))
    everyone = [one, twenty, odd, hundred, long, *others]
    step("decode of 8", *((sequence, 1, 1) for sequence in everyone[:8]))
    step("decode of 32", *((sequence, 1, 1) for sequence in everyone))
    step("decode of 3 at the end", (one, 1, 1), (hundred, 1, 1), (long, 1, 1))
    return steps


def talk(device, made, **precision):
    return Talk(core, device, made, max_tokens=2048, max_sequences=34, **precision)


def main(name, weights, cache, where, how, out, fault=None):
    made = model(name)
    if where == "float32":
        steps = conversation(talk(core.open_device("cpu"), rounded_as_on_the_card(made, weights), weights="bfloat16", activations="float32", cache="float32"), how)
    elif where == "twin":
        steps = conversation(talk(core.open_device("cpu", twin="card"), rounded_as_on_the_card(made, weights), weights="bfloat16", cache=cache), how)
    else:
        start = time.monotonic()
        device = core.open_device("n150", module=plant(fault, where), trace=how == "trace")
        on_card = talk(device, spoil(fault, made), weights=weights, activations="bfloat16", cache=cache)
        print(json.dumps({"step": "open and load", "seconds": round(time.monotonic() - start, 2)}), flush=True)
        steps = conversation(on_card, how, lambda line: print(json.dumps(line), flush=True))
    np.savez(out, **steps)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The sampler's filters against transformers' logits processors, in the order of its generate(), on the same logits.

Presence and frequency penalties are not transformers': a float64 loop stands for them, between the repetition penalty and min_new_tokens.
"""
import json
import math
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import (LogitsProcessorList, MinNewTokensLengthLogitsProcessor, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                          SequenceBiasLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

ENDS = [3, 11]
PROMPT, OUTPUT = 30, 20
DRAWS = 20000

CASES = {
    "nothing": {},
    "temperature": {"temperature": 0.6},
    "high temperature": {"temperature": 3.0},
    "top_k": {"top_k": 40},
    "top_k of one": {"top_k": 1},
    "top_k beyond the vocabulary": {"top_k": 10**6},
    "top_p": {"top_p": 0.9},
    "small top_p": {"top_p": 0.01},
    "min_p": {"min_p": 0.05},
    "min_p of one": {"min_p": 1.0},
    "top_p and min_p": {"top_p": 0.95, "min_p": 0.1},
    "top_k, then top_p of what remains": {"top_k": 10, "top_p": 0.7},
    "temperature before top_p": {"temperature": 2.0, "top_p": 0.8},
    "temperature before min_p": {"temperature": 0.5, "min_p": 0.2},
    "repetition penalty": {"repetition_penalty": 1.4},
    "reward of repetition": {"repetition_penalty": 0.7},
    "presence penalty": {"presence_penalty": 1.5},
    "frequency penalty": {"frequency_penalty": 0.8},
    "negative penalties": {"presence_penalty": -1.0, "frequency_penalty": -0.5},
    "all penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4},
    "logit bias": {"logit_bias": [[5, 4.5], [7, -100.0], [900, 12.0]]},
    "bias before the repetition penalty": {"logit_bias": [[5, 30.0], [6, -30.0]], "repetition_penalty": 1.5},
    "min_new_tokens not reached": {"min_new_tokens": OUTPUT + 1},
    "min_new_tokens reached": {"min_new_tokens": OUTPUT},
    "ends that are biased but must wait": {"min_new_tokens": OUTPUT + 1, "logit_bias": [[3, 50.0]]},
    "end tokens ignored": {"ignore_eos": True, "top_k": 20},
    "everything": {"temperature": 0.8, "top_k": 60, "top_p": 0.92, "min_p": 0.02, "repetition_penalty": 1.2, "presence_penalty": 0.3,
                   "frequency_penalty": 0.2, "min_new_tokens": 100, "logit_bias": [[5, 3.0], [8, -2.0]]},
}


@pytest.fixture(scope="module")
def ask(build):
    tool = build / "tests/generate/sample_tool"
    if not tool.exists():
        pytest.skip(f"{tool} is not built: run `make build`")

    def go(requests):
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run([tool], input=lines, capture_output=True, text=True, check=True, timeout=120)
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(replies) == len(requests) and not any("error" in reply for reply in replies), replies[:1]
        return replies
    return go


class Penalties:
    """OpenAI's: once, and for each time, that a token stands in the output."""

    def __init__(self, presence, frequency):
        self.presence, self.frequency = presence, frequency

    def __call__(self, ids, scores):
        scores = scores.clone()
        for token, times in Counter(ids[0, PROMPT:].tolist()).items():
            scores[0, token] -= self.presence + self.frequency * times
        return scores


def processors(params):
    steps = LogitsProcessorList()
    if params.get("logit_bias"):
        steps.append(SequenceBiasLogitsProcessor([[[token], bias] for token, bias in params["logit_bias"]]))
    if "repetition_penalty" in params:
        steps.append(RepetitionPenaltyLogitsProcessor(params["repetition_penalty"]))
    steps.append(Penalties(params.get("presence_penalty", 0), params.get("frequency_penalty", 0)))
    least = 10**9 if params.get("ignore_eos") else params.get("min_new_tokens", 0)
    steps.append(MinNewTokensLengthLogitsProcessor(PROMPT, least, torch.tensor(ENDS)))
    if params.get("temperature", 1.0) not in (0, 1.0):
        steps.append(TemperatureLogitsWarper(params["temperature"]))
    if "top_k" in params:
        steps.append(TopKLogitsWarper(params["top_k"]))
    if "top_p" in params:
        steps.append(TopPLogitsWarper(params["top_p"]))
    if "min_p" in params:
        steps.append(MinPLogitsWarper(params["min_p"]))
    return steps


def expected(request):
    """In float64, so that no rounding of a cumulative sum decides."""
    scores = torch.tensor([request["logits"]], dtype=torch.float64)
    return processors(request["params"])(torch.tensor([request["tokens"]]), scores)[0]


def requests(params, count, vocabulary=1000, draws=0, grid=0.0):
    numbers = np.random.default_rng(7)
    for _ in range(count):
        logits = numbers.normal(0, 3, vocabulary).astype(np.float32)
        if grid:
            logits = np.round(logits / grid).astype(np.float32) * np.float32(grid)
        tokens = numbers.integers(0, 12, PROMPT + OUTPUT)  # few, so that they repeat, and end tokens are among them
        yield {"logits": logits.tolist(), "tokens": tokens.tolist(), "prompt": PROMPT, "ends": ENDS, "params": params, "draws": draws}


def assert_same(request, reply):
    probabilities = torch.softmax(expected(request), dim=0)
    kept = {token: p for token, p in enumerate(probabilities.tolist()) if p > 0}
    ours = dict(map(tuple, reply["candidates"]))
    assert set(ours) == set(kept)
    for token, p in kept.items():
        assert ours[token] == pytest.approx(p, abs=1e-6), token
    assert [p for _, p in reply["candidates"]] == sorted(ours.values(), reverse=True)
    assert math.isclose(sum(ours.values()), 1, abs_tol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_candidates_are_those_of_transformers(ask, name):
    asked = [*requests(CASES[name], 5), *requests(CASES[name], 1, vocabulary=20011)]
    for request, reply in zip(asked, ask(asked)):
        assert_same(request, reply)


@pytest.mark.parametrize("name", ["top_k", "repetition penalty", "logit bias", "min_p"])
def test_equal_logits_are_kept_together(ask, name):
    asked = list(requests(CASES[name], 5, grid=0.5))
    for request, reply in zip(asked, ask(asked)):
        assert_same(request, reply)


@pytest.mark.parametrize("name", CASES)
def test_greedy_takes_the_largest_of_what_transformers_leaves(ask, name):
    asked = list(requests({**CASES[name], "temperature": 0}, 5))
    for request, reply in zip(asked, ask(asked)):
        plain = {key: value for key, value in request["params"].items() if key not in ("top_k", "top_p", "min_p")}
        assert reply["drawn"] == [int(torch.argmax(expected({**request, "params": plain})))]


@pytest.mark.parametrize("name", ["temperature", "top_k, then top_p of what remains", "everything"])
def test_what_is_drawn_follows_the_probabilities_within_five_sigma(ask, name):
    (request,) = requests({**CASES[name], "seed": 3}, 1, vocabulary=200, draws=DRAWS)
    (reply,) = ask([request])
    probabilities = torch.softmax(expected(request), dim=0).tolist()
    counts = Counter(reply["drawn"])
    assert sum(counts.values()) == DRAWS
    for token, p in enumerate(probabilities):
        assert abs(counts[token] - DRAWS * p) <= 5 * math.sqrt(DRAWS * p * (1 - p)) + (p > 0), token  # one more: a rare token may be drawn once

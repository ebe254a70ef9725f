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
from transformers import (EncoderNoRepeatNGramLogitsProcessor, EncoderRepetitionPenaltyLogitsProcessor, EpsilonLogitsWarper, EtaLogitsWarper,
                          ExponentialDecayLengthPenalty, ForcedEOSTokenLogitsProcessor, InfNanRemoveLogitsProcessor, LogitsProcessorList,
                          MinLengthLogitsProcessor, MinNewTokensLengthLogitsProcessor, MinPLogitsWarper, NoBadWordsLogitsProcessor,
                          NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor,
                          SuppressTokensLogitsProcessor, TemperatureLogitsWarper, TopHLogitsWarper, TopKLogitsWarper, TopPLogitsWarper,
                          TypicalLogitsWarper)

ENDS = [3, 11]
PROMPT, OUTPUT = 30, 20
DRAWS = 20000
FILTERS = {"top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}

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
    "sequence bias": {"sequence_bias": [[[7], 3.5], [[900], 12.0], [[5, 8], -4.0], [[1] * 60, 9.0]]},
    "sequence bias and logit bias": {"sequence_bias": [[[7], 3.5], [[8], 1.25]], "logit_bias": [[7, -9.0]]},
    "bad words, an end token among them": {"bad_words_ids": [[3], [900], [5], [4, 6], [9, 9, 9]]},
    "encoder repetition penalty": {"encoder_repetition_penalty": 1.4},
    "both repetition penalties": {"encoder_repetition_penalty": 0.6, "repetition_penalty": 1.3},
    "ngrams of one": {"no_repeat_ngram_size": 1},
    "ngrams of two": {"no_repeat_ngram_size": 2},
    "ngrams of two of the prompt": {"encoder_no_repeat_ngram_size": 2},
    "ngrams longer than the text": {"no_repeat_ngram_size": 100, "encoder_no_repeat_ngram_size": 100},
    "min_length not reached": {"min_length": PROMPT + OUTPUT + 1},
    "min_length reached": {"min_length": PROMPT + OUTPUT},
    "forced end tokens": {"forced_eos_token_id": [4, 11], "max_length": PROMPT + OUTPUT + 1},
    "forced end tokens, later": {"forced_eos_token_id": [4, 11], "max_length": PROMPT + OUTPUT + 2},
    "an end that grows": {"exponential_decay_length_penalty": [OUTPUT - 2, 1.5]},
    "an end that begins to grow": {"exponential_decay_length_penalty": [OUTPUT - 1, 1.5]},
    "an end that grows later": {"exponential_decay_length_penalty": [OUTPUT, 1.5]},
    "an end that is forced, and grows": {"exponential_decay_length_penalty": [2, 1.5], "min_new_tokens": OUTPUT + 1},
    "suppressed tokens": {"suppress_tokens": [0, 3, 5, -1, 10**6]},
    "invalid values removed": {"remove_invalid_values": True, "min_new_tokens": OUTPUT + 1},
    "top_h": {"top_h": 0.4},
    "small top_h": {"top_h": 0.01},
    "top_h of 0.9, then top_k of what remains": {"top_h": 0.9, "top_k": 5},
    "temperature before top_h": {"temperature": 2.0, "top_h": 0.5},
    "typical_p": {"typical_p": 0.6},
    "small typical_p": {"typical_p": 0.05},
    "typical_p after top_k": {"top_k": 20, "typical_p": 0.5},
    "epsilon_cutoff": {"epsilon_cutoff": 3e-3},
    "epsilon_cutoff above all": {"epsilon_cutoff": 0.999},
    "eta_cutoff": {"eta_cutoff": 3e-3},
    "epsilon_cutoff after top_k": {"top_k": 10, "epsilon_cutoff": 0.1},
    "every filter": {"temperature": 1.3, "top_h": 0.8, "top_k": 60, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "epsilon_cutoff": 1e-3,
                     "eta_cutoff": 5e-3},
    "everything": {"temperature": 0.8, "top_k": 60, "top_p": 0.92, "min_p": 0.02, "repetition_penalty": 1.2, "presence_penalty": 0.3,
                   "frequency_penalty": 0.2, "min_new_tokens": 100, "logit_bias": [[5, 3.0], [8, -2.0]], "sequence_bias": [[[6], 2.0]], "no_repeat_ngram_size": 3,
                   "bad_words_ids": [[2]], "suppress_tokens": [1], "exponential_decay_length_penalty": [3, 1.1]},
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


def processors(params, tokens):
    steps = LogitsProcessorList()
    ends, prompt = torch.tensor(ENDS), torch.tensor([tokens[:PROMPT]])
    for biases in [[[token], bias] for token, bias in params.get("logit_bias", [])], params.get("sequence_bias", []):
        if biases:
            steps.append(SequenceBiasLogitsProcessor(biases))
    if "encoder_repetition_penalty" in params:
        steps.append(EncoderRepetitionPenaltyLogitsProcessor(params["encoder_repetition_penalty"], prompt))
    if "repetition_penalty" in params:
        steps.append(RepetitionPenaltyLogitsProcessor(params["repetition_penalty"]))
    steps.append(Penalties(params.get("presence_penalty", 0), params.get("frequency_penalty", 0)))
    if "no_repeat_ngram_size" in params:
        steps.append(NoRepeatNGramLogitsProcessor(params["no_repeat_ngram_size"]))
    if "encoder_no_repeat_ngram_size" in params:
        steps.append(EncoderNoRepeatNGramLogitsProcessor(params["encoder_no_repeat_ngram_size"], prompt))
    if "bad_words_ids" in params:
        steps.append(NoBadWordsLogitsProcessor(params["bad_words_ids"], ends))
    steps.append(MinLengthLogitsProcessor(params.get("min_length", 0), ends))
    least = 10**9 if params.get("ignore_eos") else params.get("min_new_tokens", 0)
    steps.append(MinNewTokensLengthLogitsProcessor(PROMPT, least, ends))
    if "forced_eos_token_id" in params:
        steps.append(ForcedEOSTokenLogitsProcessor(params["max_length"], params["forced_eos_token_id"]))
    if params.get("remove_invalid_values"):
        steps.append(InfNanRemoveLogitsProcessor())
    if "exponential_decay_length_penalty" in params:
        steps.append(ExponentialDecayLengthPenalty(params["exponential_decay_length_penalty"], ends, PROMPT))
    if "suppress_tokens" in params:
        steps.append(SuppressTokensLogitsProcessor(params["suppress_tokens"]))
    if params.get("temperature", 1.0) not in (0, 1.0):
        steps.append(TemperatureLogitsWarper(params["temperature"]))
    if "top_h" in params:
        steps.append(TopHLogitsWarper(params["top_h"]))
    if "top_k" in params:
        steps.append(TopKLogitsWarper(params["top_k"]))
    if "top_p" in params:
        steps.append(TopPLogitsWarper(params["top_p"]))
    if "min_p" in params:
        steps.append(MinPLogitsWarper(params["min_p"]))
    if "typical_p" in params:
        steps.append(TypicalLogitsWarper(params["typical_p"]))
    if "epsilon_cutoff" in params:
        steps.append(EpsilonLogitsWarper(params["epsilon_cutoff"]))
    if "eta_cutoff" in params:
        steps.append(EtaLogitsWarper(params["eta_cutoff"]))
    return steps


def expected(request):
    """In float64, so that no rounding of a cumulative sum decides."""
    scores = torch.tensor([request["logits"]], dtype=torch.float64)
    return processors(request["params"], request["tokens"])(torch.tensor([request["tokens"]]), scores)[0]


def requests(params, count, vocabulary=1000, draws=0, grid=0.0):
    numbers = np.random.default_rng(7)
    for _ in range(count):
        logits = numbers.normal(0, 3, vocabulary).astype(np.float32)
        if grid:
            logits = np.round(logits / grid).astype(np.float32) * np.float32(grid)
        tokens = numbers.integers(0, 12, PROMPT + OUTPUT)  # few, so that they repeat, and end tokens are among them
        yield {"logits": logits.tolist(), "tokens": tokens.tolist(), "prompt": PROMPT, "ends": ENDS, "params": params, "draws": draws,
               **{key: params[key] for key in ("max_length",) if key in params}}


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
        plain = {key: value for key, value in request["params"].items() if key not in FILTERS}
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

"""Hugging Face's own precisions on one text: float32, bfloat16, and float32 that carries block-rounded weights."""
import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM

ROWS = 128  # rows of logits held at a time: 128 x 262,144 floats are 134 MB
BLOCK, LARGEST = 16, 127  # bfloat8_b: outputs that share an exponent, the largest magnitude


def block_rounded(weight):
    """A float32 weight [out, in] whose values are bfloat16's, rounded to bfloat8_b: 16 neighbouring outputs of one input share an exponent.

    For such values the format's dropped bits cannot matter (they lie below half of the last place), so this is rounding to nearest even;
    test_perplexity.py holds it against block_float_model.py.
    """
    outputs, inputs = weight.shape
    assert outputs % BLOCK == 0
    blocks = weight.reshape(outputs // BLOCK, BLOCK, inputs)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    exponent = torch.frexp(largest).exponent  # largest < 2^exponent, so its 7 bits end at 2^(exponent - 7)
    step = torch.ldexp(torch.ones_like(largest), exponent - 7)
    codes = torch.clamp(torch.round(blocks / step), -LARGEST, LARGEST)
    return (codes * step).reshape(outputs, inputs)


@torch.no_grad()
def round_weights(model):
    """Rounds in place what a linear multiplies; q|k|v and gate|up may be joined or not, as each part is a whole number of blocks."""
    weights = {id(module.weight): module.weight for module in model.modules() if isinstance(module, (torch.nn.Linear, torch.nn.Embedding))}
    for weight in weights.values():  # a tied embedding once
        for begin in range(0, len(weight), 8192):
            weight[begin:begin + 8192] = block_rounded(weight[begin:begin + 8192])


def log_softmax(logits, dtype=torch.float64):
    """float32 is enough, and twice as fast, where many rows are averaged: an error of 1e-6 a row."""
    return torch.log_softmax(torch.as_tensor(np.ascontiguousarray(logits) if isinstance(logits, np.ndarray) else logits).to(dtype), dim=-1)


def losses_of(log_probs, targets):
    return -log_probs[torch.arange(len(targets)), targets].double().numpy()


def divergences(p, q):
    """KL(p || q) of each row of log-probabilities."""
    return (p.exp() * (p - q)).sum(dim=-1, dtype=torch.float64).numpy()


@dataclass
class Reference:
    float32_losses: np.ndarray  # of the tokens after the first
    bfloat16_losses: np.ndarray
    bfloat16_divergences: np.ndarray  # KL(float32 || bfloat16)
    rounded_hidden: np.ndarray  # [tokens, hidden]: what the head gets in float32 with block-rounded weights


def load(checkpoint, dtype):
    """Loaded directly in the wanted type: a conversion afterwards would keep other constants."""
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()


@torch.no_grad()
def compute(checkpoint, ids):
    batch, targets = torch.tensor([ids]), torch.tensor(ids[1:])
    hidden = lambda model: model.model(input_ids=batch, use_cache=False).last_hidden_state[0]
    whole, half = load(checkpoint, torch.float32), load(checkpoint, torch.bfloat16)
    assert getattr(whole.config, "final_logit_softcapping", None) is None
    whole_hidden, half_hidden = hidden(whole), hidden(half)
    parts = []
    for begin in range(0, len(targets), ROWS):
        rows = slice(begin, min(begin + ROWS, len(targets)))
        p, q = (log_softmax(model.lm_head(states[rows]), torch.float32) for model, states in ((whole, whole_hidden), (half, half_hidden)))
        parts.append((losses_of(p, targets[rows]), losses_of(q, targets[rows]), divergences(p, q)))
    round_weights(whole)
    return Reference(*map(np.concatenate, zip(*parts)), hidden(whole).numpy())


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TESSERA_CACHE") or Path(base) / "tessera") / "references"


def reference(checkpoint, ids):
    """Computed once for these weights, ids, versions and this file; kept in the cache folder."""
    key = hashlib.sha256(repr((ids, torch.__version__, transformers.__version__)).encode())
    for file in (Path(__file__), checkpoint / "config.json", checkpoint / "model.safetensors"):
        with open(file, "rb") as content:
            key.update(hashlib.file_digest(content, "sha256").digest())
    path = cache_folder() / f"precisions-{key.hexdigest()[:32]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
        np.savez(temporary, **vars(compute(checkpoint, ids)))
        temporary.rename(path)
    with np.load(path) as arrays:
        return Reference(**arrays)


@torch.no_grad()
def compare_with_rounded(checkpoint, ids, hidden, logits):
    """Of HF with block-rounded weights, and of `logits` [tokens, vocabulary]: each one's losses; and KL(HF || logits)."""
    targets = torch.tensor(ids[1:])
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        name = "lm_head.weight" if "lm_head.weight" in file.keys() else "model.embed_tokens.weight"
        head = file.get_tensor(name).float()
    for begin in range(0, len(head), 8192):
        head[begin:begin + 8192] = block_rounded(head[begin:begin + 8192])
    parts = []
    for begin in range(0, len(targets), ROWS):
        rows = slice(begin, min(begin + ROWS, len(targets)))
        p, q = log_softmax(torch.from_numpy(hidden[rows]) @ head.T, torch.float32), log_softmax(logits[rows])
        parts.append((losses_of(p, targets[rows]), losses_of(q, targets[rows]), divergences(p, q.float())))
    return map(np.concatenate, zip(*parts))


def perplexity(losses):
    return math.exp(losses.mean())

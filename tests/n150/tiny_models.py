"""The checkpoints of tests/python/tiny_checkpoints.py: (architecture, config.json, tensors) as tessera.make_model takes them."""
import functools
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from block_float_model import MAGNITUDE_BITS, decode, encode

ROOT = Path(__file__).resolve().parents[2]
TORCH_PYTHON = ROOT / ".venv/bin/python"


@functools.cache
def folders():
    """Where the Python that has torch has written them, by their names."""
    if not TORCH_PYTHON.exists():
        pytest.skip(f"{TORCH_PYTHON} is not there: run scripts/setup test")
    out = ROOT / os.environ["TESSERA_BUILD"] / "tiny"
    subprocess.run([TORCH_PYTHON, ROOT / "tests/python/tiny_checkpoints.py", out], check=True)
    return out


def model(name):
    config = (folders() / name / "config.json").read_text()
    shapes = folders() / name / "shapes.json"
    tensors = no_values(json.loads(shapes.read_text())) if shapes.exists() else read_bfloat16(folders() / name / "model.safetensors")
    return json.loads(config)["architectures"][0], config, tensors


def read_bfloat16(path):
    """As float32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    tensors = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            values = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
            tensors[name] = values.view(np.float32).reshape(tensor["shape"])
    return tensors


def no_values(shapes):
    """Tensors of one shape share their memory, which nobody reads."""
    shared = {tuple(shape): np.zeros(shape, np.float16) for shape in shapes.values()}
    return {name: shared[tuple(shape)] for name, shape in shapes.items()}


def rounded_as_on_the_card(model, format_name):
    """The model with its linears' values as the card's tiles of this format hold them: 16 outputs share an exponent, in the card's order of rows."""
    architecture, config, tensors = model
    if format_name not in MAGNITUDE_BITS:
        return model
    read = json.loads(config)
    head_dim = read.get("head_dim", read["hidden_size"] // read["num_attention_heads"])
    tied = "lm_head.weight" not in tensors
    linears = {name for name, values in tensors.items() if values.ndim == 2 and (tied or "embed_tokens" not in name)}

    def round_rows(values, order):
        bits = MAGNITUDE_BITS[format_name]
        blocks = np.pad(values[order], [(0, -len(values) % 16), (0, 0)]).T.copy()
        held = decode(*encode(blocks.reshape(-1, 16), bits), bits).view(np.float32).reshape(blocks.shape).T[: len(values)]
        out = np.empty_like(values)
        out[order] = held
        return out

    def round_linear(name, values):
        rows = np.arange(len(values))
        if "gate_up" in name:
            return np.concatenate([round_rows(half, rows[: len(half)]) for half in np.split(values, 2)])
        if any(part in name for part in ("qkv_proj", "q_proj", "k_proj")) and head_dim % 64 and head_dim != 32:  # a rotation's pairs are neighbours on the card
            rotated = 2 * len(rows) // 3 if "qkv_proj" in name else len(rows)
            pairs = rows[:rotated].reshape(-1, 2, head_dim // 2).transpose(0, 2, 1).reshape(-1)
            rows = np.concatenate([pairs, rows[rotated:]])
        return round_rows(values, rows)

    return architecture, config, {name: round_linear(name, values) if name in linears else values for name, values in tensors.items()}

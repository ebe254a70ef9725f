"""The place-holder's arithmetic beside TTNN's own golden functions, which want torch: `python tests/n150/golden_check.py` in a Python 3.12 with ttnn and
torch. Prints the largest differences, in units of bfloat16's last place at the golden value; exits with 1 beyond 1 (attention 2)."""
import os
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))
import mock_card  # noqa: E402

mock_card.prepare(Path(tempfile.mkdtemp()))
os.environ["TTNN_CONFIG_OVERRIDES"] = "{}"
import numpy as np  # noqa: E402
import torch  # noqa: E402
import ttnn  # noqa: E402

import numpy_ttnn as place  # noqa: E402

RANDOM = np.random.default_rng(9)
failed = False


def values(*shape):
    return place.rounded(RANDOM.standard_normal(shape), "bfloat16")


def report(name, computed, golden, limit=1):
    global failed
    golden = golden.to(torch.float64).numpy()
    size = np.maximum(np.abs(golden), np.abs(golden).max() / 256)
    worst = float((np.abs(computed - golden) / 2.0 ** (np.floor(np.log2(size)) - 7)).max())
    failed |= worst > limit
    print(f"{name}: {worst:.3f}")


def golden(op, *arguments, **options):
    torched = [torch.from_numpy(np.ascontiguousarray(a)) if isinstance(a, np.ndarray) else a for a in arguments]
    return ttnn.get_golden_function(op)(*torched, **options)


x, w = values(1, 1, 40, 128), values(1, 1, 128, 96)
report("linear", place.linear(place.Tensor(x), place.Tensor(w), "DRAM", "bfloat16", None).values, golden(ttnn.linear, x, w))
gamma = values(1, 1, 1, 128)
report("rms_norm", place.rms_norm(place.Tensor(x), 1e-6, place.Tensor(gamma), "DRAM", None).values,
       golden(ttnn.rms_norm, x, weight=torch.from_numpy(gamma), epsilon=1e-6))
a, b = values(1, 1, 32, 64), values(1, 1, 32, 64)
for name in "SILU", "GELU_TANH":
    report(f"mul of {name}", place.mul(place.Tensor(a), place.Tensor(b), [name], "DRAM").values,
           golden(ttnn.mul, a, b, input_tensor_a_activations=[getattr(ttnn.UnaryOpType, name)]))
report("add", place.add(place.Tensor(a), place.Tensor(b), "DRAM").values, golden(ttnn.add, a, b))
report("tanh", place.tanh(place.Tensor(a), "DRAM").values, golden(ttnn.tanh, a))
ids = RANDOM.integers(0, 128, (1, 32))
table = values(128, 64)
report("embedding", place.embedding(place.Tensor(ids, "uint32", "ROW_MAJOR"), place.Tensor(table[None, None], layout="ROW_MAJOR"), "TILE", "DRAM").values,
       golden(ttnn.embedding, ids, table))

config = place.SDPAProgramConfig(q_chunk_size=128, k_chunk_size=128)
pages = place.Tensor(np.array([[2, 0, 3, 1, 4, 5, 6, 7]] * 2, np.int32), "int32", "ROW_MAJOR")
keys, vals = (place.Tensor(values(8, 2, 64, 64)) for _ in range(2))
contiguous = [cache.values[pages.values[0]].transpose(1, 0, 2, 3).reshape(1, 2, 512, 64) for cache in (keys, vals)]
for window in None, 100:
    positions = np.array([200, 317], np.int32)
    q = values(1, 2, 4, 64)
    mine = place.paged_scaled_dot_product_attention_decode(place.Tensor(q), keys, vals, pages, place.Tensor(positions, "int32", "ROW_MAJOR"), 0.125, window, config, None,
                                                           "DRAM")
    report(f"decode, window {window}", mine.values,
           golden(ttnn.transformer.scaled_dot_product_attention_decode, q, *[np.repeat(c, 2, axis=0) for c in contiguous], is_causal=True,
                  cur_pos_tensor=torch.from_numpy(positions), scale=0.125, sliding_window_size=window), 2)
    q = values(1, 4, 256, 64)
    mine = place.chunked_scaled_dot_product_attention(place.Tensor(q), keys, vals, pages, place.Tensor(np.array([0], np.int32), "int32", "ROW_MAJOR"), 0.125, window, config,
                                                      None, "DRAM")
    report(f"prompt, window {window}", mine.values,
           golden(ttnn.transformer.scaled_dot_product_attention, q, *[c[:, :, :256] for c in contiguous], is_causal=True, scale=0.125, sliding_window_size=window), 2)
sys.exit(failed)

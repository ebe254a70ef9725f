"""Every call that the n150's device makes, on TTNN with the simulated card and on the NumPy place-holder, beside float64: run as a child process of
test_ops.py. `python ops.py GROUP` prints a line of JSON for each case: how far each is from float64, and from the other, as shares of the values' size.

A case gets a lane (`Card` or `PlaceHolder`) and random numbers, and gives what the lane computed and what float64 does, as lists of arrays."""
import importlib
import json
import os
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "python")]

import numpy as np  # noqa: E402
import numpy_ttnn  # noqa: E402

PAGE = 64


class PlaceHolder:
    t = numpy_ttnn
    card = numpy_ttnn.Card()

    def put(self, values, dtype="bfloat16", layout="TILE_LAYOUT", memory="DRAM"):
        kept = np.array(values, {"int32": np.int32, "uint32": np.uint32}.get(dtype, np.float32))
        return numpy_ttnn.Tensor(kept, dtype, layout.removesuffix("_LAYOUT"), memory)

    def get(self, tensor):
        return np.asarray(tensor.values, np.float64)


class Card:
    def __init__(self):
        self.t = importlib.import_module(os.environ.get("TESSERA_TTNN_MODULE", "ttnn"))
        self.card = self.t.open_device(device_id=0)

    def put(self, values, dtype="bfloat16", layout="TILE_LAYOUT", memory="DRAM"):
        t, kind = self.t, {"int32": np.int32, "uint32": np.uint32}.get(dtype, np.float32)
        tensor = t.Tensor(np.ascontiguousarray(values, kind), getattr(t, dtype), device=self.card, layout=getattr(t, layout), mem_config=t.DRAM_MEMORY_CONFIG)
        return tensor if memory == "DRAM" else t.to_memory_config(tensor, memory)

    def get(self, tensor):
        t = self.t
        host = (t.to_memory_config(tensor, t.DRAM_MEMORY_CONFIG) if tensor.is_sharded() else tensor).cpu()
        if host.dtype in (t.int32, t.uint32, t.uint16):
            host = host if host.layout == t.ROW_MAJOR_LAYOUT else t.to_layout(host, t.ROW_MAJOR_LAYOUT)
            return np.array(host.to_numpy(), np.float64)
        if host.dtype not in (t.bfloat8_b, t.bfloat4_b) and host.layout != t.ROW_MAJOR_LAYOUT:
            host = t.to_layout(host, t.ROW_MAJOR_LAYOUT)
        return np.array(t.to_dtype(host, t.float32).to_numpy(), np.float64)


def bfloat16(values):
    return numpy_ttnn.rounded(values, "bfloat16").astype(np.float64)


def normal(random, *shape):
    return bfloat16(random.standard_normal(shape))


def kernel(lane, fidelity="HiFi4"):
    return lane.t.WormholeComputeKernelConfig(math_fidelity=getattr(lane.t.MathFidelity, fidelity), math_approx_mode=False, fp32_dest_acc_en=True,
                                              packer_l1_acc=True)


def attention_config(lane, queries, keys):
    return lane.t.SDPAProgramConfig(compute_with_storage_grid_size=lane.card.compute_with_storage_grid_size(), q_chunk_size=queries, k_chunk_size=keys,
                                    exp_approx_mode=False)


def sharded(lane, users, width):
    t = lane.t
    cores = t.num_cores_to_corerangeset(users, lane.card.compute_with_storage_grid_size(), row_wise=True)
    return t.MemoryConfig(t.TensorMemoryLayout.HEIGHT_SHARDED, t.BufferType.L1, t.ShardSpec(cores, [32, width], t.ShardOrientation.ROW_MAJOR))


def integers(lane, values):
    return lane.put(list(values), "int32", "ROW_MAJOR_LAYOUT")


# What is exact: it moves values and computes nothing.


def there_and_back(dtype):
    def case(lane, random):
        x = random.standard_normal((1, 2, 64, 96)).astype(np.float32)
        return [lane.get(lane.put(x, dtype))], [numpy_ttnn.rounded(x, dtype)]

    return case


def embedding(vocab, hidden, rows):
    def case(lane, random):
        table, ids = normal(random, 1, 1, vocab, hidden), random.integers(0, vocab, (1, rows))
        made = lane.t.embedding(lane.put(ids, "uint32", "ROW_MAJOR_LAYOUT"), lane.put(table, layout="ROW_MAJOR_LAYOUT"), layout=lane.t.TILE_LAYOUT,
                                memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made).reshape(rows, hidden)], [table[0, 0][ids[0]]]

    return case


def to_rows(rows, width, dtype="bfloat16"):
    def case(lane, random):
        x = normal(random, 1, 1, rows, width)
        return [lane.get(lane.t.to_layout(lane.put(x, dtype), lane.t.ROW_MAJOR_LAYOUT, memory_config=lane.t.DRAM_MEMORY_CONFIG))], [x]

    return case


def rows_by_number(rows, width, wanted):
    """Rows of a chunk, looked up in it."""

    def case(lane, random):
        x = normal(random, 1, 1, rows, width)
        lines = lane.t.to_layout(lane.put(x), lane.t.ROW_MAJOR_LAYOUT, memory_config=lane.t.DRAM_MEMORY_CONFIG)
        made = lane.t.embedding(lane.put([wanted], "uint32", "ROW_MAJOR_LAYOUT"), lines, layout=lane.t.TILE_LAYOUT, memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made).reshape(len(wanted), width)], [x[0, 0, wanted]]

    return case


def copy(rows, width):
    def case(lane, random):
        x, to = normal(random, 1, 1, rows, width), lane.put(np.zeros((1, 1, rows, width)))
        lane.t.copy(lane.put(x), to)
        return [lane.get(to)], [x]

    return case


def argmax(rows, vocab):
    def case(lane, random):
        x = normal(random, 1, 1, rows, vocab)
        made = lane.t.argmax(lane.put(x, layout="ROW_MAJOR_LAYOUT"), dim=-1)
        return [lane.get(made).reshape(-1)], [x.argmax(axis=-1).reshape(-1)]

    return case


def topk(rows, vocab, k):
    def case(lane, random):
        x = normal(random, 1, 1, rows, vocab)
        values, ids = lane.t.topk(lane.put(x), k=k, dim=-1)
        chosen = np.take_along_axis(x, lane.get(ids).reshape(1, 1, rows, k).astype(np.int64), axis=-1)
        largest = -np.sort(-x, axis=-1)[..., :k]
        return [lane.get(values), chosen], [largest, largest]

    return case


def fill(pages, heads, head_dim):
    def case(lane, random):
        t = lane.t
        empty = t.empty((pages, heads, PAGE, head_dim), t.bfloat16, t.TILE_LAYOUT, lane.card, t.DRAM_MEMORY_CONFIG)
        return [lane.get(t.fill(empty, 0.0, output_tensor=empty))], [np.zeros((pages, heads, PAGE, head_dim))]

    return case


def create_heads(tokens, heads, kv_heads, head_dim, decode):
    def case(lane, random):
        x = normal(random, 1, 1, tokens, (heads + 2 * kv_heads) * head_dim)
        if decode:
            made = lane.t.experimental.nlp_create_qkv_heads_decode(lane.put(x), num_heads=heads, num_kv_heads=kv_heads,
                                                                   memory_config=lane.t.L1_HEIGHT_SHARDED_MEMORY_CONFIG)
        else:
            made = lane.t.experimental.nlp_create_qkv_heads(lane.put(x), num_heads=heads, num_kv_heads=kv_heads, transpose_k_heads=False,
                                                            memory_config=lane.t.DRAM_MEMORY_CONFIG)
        parts = np.split(x.reshape(tokens, heads + 2 * kv_heads, head_dim), [heads, heads + kv_heads], axis=1)
        return [lane.get(part) for part in made], [(part if decode else part.transpose(1, 0, 2))[None] for part in parts]

    return case


def heads_alone(tokens, heads, head_dim, decode):
    """Queries without keys: what a norm over all heads is cut into."""

    def case(lane, random):
        t, x = lane.t, normal(random, 1, 1, tokens, heads * head_dim)
        if decode:
            thrice = t.concat([lane.put(x) for _ in range(3)], dim=3, memory_config=t.DRAM_MEMORY_CONFIG)
            made = t.experimental.nlp_create_qkv_heads_decode(thrice, num_heads=heads, num_kv_heads=heads,
                                                              memory_config=t.L1_HEIGHT_SHARDED_MEMORY_CONFIG)
        else:
            made = t.experimental.nlp_create_qkv_heads(lane.put(x), num_heads=heads, num_kv_heads=0, transpose_k_heads=False,
                                                       memory_config=t.DRAM_MEMORY_CONFIG)
        parts = x.reshape(tokens, heads, head_dim)
        return [lane.get(made[0])], [(parts if decode else parts.transpose(1, 0, 2))[None]]

    return case


def concat_heads(tokens, heads, head_dim):
    def case(lane, random):
        x = normal(random, 1, heads, tokens, head_dim)
        made = lane.t.experimental.nlp_concat_heads(lane.put(x), memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made)], [x.transpose(0, 2, 1, 3).reshape(1, 1, tokens, -1)]

    return case


def concat_heads_of_a_decode(users, heads, head_dim):
    def case(lane, random):
        t, x = lane.t, normal(random, 1, users, heads, head_dim)
        joined = t.experimental.nlp_concat_heads_decode(lane.put(x, memory=sharded(lane, users, head_dim)), num_heads=heads)
        made = lane.get(t.to_memory_config(joined, t.DRAM_MEMORY_CONFIG))
        return [made[:, :, :users]], [x.reshape(1, 1, users, heads * head_dim)]

    return case


def copy_page(heads, head_dim, dtype):
    """The pages' numbers are values on the card."""

    def case(lane, random):
        cache = lane.put(normal(random, 8, heads, PAGE, head_dim), dtype)
        expected = lane.get(cache).copy()
        expected[2] = expected[5]
        source = lane.put([5] + [0] * 511, "uint32", "ROW_MAJOR_LAYOUT")
        page = lane.t.slice(cache, source, source, slice_dim=0, num_devices=8, memory_config=lane.t.DRAM_MEMORY_CONFIG)
        lane.t.experimental.paged_fill_cache(cache, page, integers(lane, [[2]]), batch_idx=0)
        return [lane.get(cache)], [expected]

    return case


def fill_pages(heads, head_dim, dtype):
    def case(lane, random):
        table, x = [[3, 1, 6, 2]], normal(random, 1, heads, 4 * PAGE, head_dim)
        known = lane.put(x, dtype)
        cache = lane.put(np.zeros((8, heads, PAGE, head_dim)), dtype)
        lane.t.experimental.paged_fill_cache(cache, known, integers(lane, table), batch_idx=0)
        expected = np.zeros((8, heads, PAGE, head_dim))
        for i, page in enumerate(table[0]):
            expected[page] = lane.get(known)[0, :, i * PAGE:(i + 1) * PAGE]
        return [lane.get(cache)], [expected]

    return case


def update_pages(users, heads, head_dim, dtype, of_nobody=0):
    """Each user's row in a page of its own; the last `of_nobody` have position -1 and write nothing."""

    def case(lane, random):
        pages = max(8, users + 1)
        old, x = normal(random, pages, heads, PAGE, head_dim), normal(random, 1, users, heads, head_dim)
        positions = [(17 * user + 3) % 128 for user in range(users)]
        table = [[user, user] + [pages - 1] * 6 for user in range(users)]
        for user in range(users - of_nobody, users):
            positions[user], table[user] = -1, [pages - 1] * 8
        cache = lane.put(old, dtype)
        expected = lane.get(cache).copy()
        lane.t.experimental.paged_update_cache(cache, lane.put(x, memory=sharded(lane, users, head_dim)), update_idxs_tensor=integers(lane, positions),
                                               page_table=integers(lane, table))
        held = numpy_ttnn.rounded(x, dtype)
        for user, position in enumerate(positions):
            if position >= 0:
                expected[table[user][position // PAGE], :, position % PAGE] = held[0, user]
        return [lane.get(cache)], [expected]

    return case


# What computes.


def linear(rows, width, outputs, weights, fidelity="HiFi4", output="bfloat16"):
    def case(lane, random):
        x, weight = normal(random, 1, 1, rows, width), normal(random, 1, 1, width, outputs)
        held = numpy_ttnn.rounded(weight, weights).astype(np.float64)  # 16 outputs of an input share an exponent
        made = lane.t.linear(lane.put(x), lane.put(weight, weights), memory_config=lane.t.DRAM_MEMORY_CONFIG, dtype=getattr(lane.t, output),
                             compute_kernel_config=kernel(lane, fidelity))
        return [lane.get(made)], [x @ held]

    return case


def rms_norm(*shape):
    def case(lane, random):
        x, weight = normal(random, *shape), 1 + random.standard_normal((1, 1, 1, shape[-1])).astype(np.float32)
        made = lane.t.rms_norm(lane.put(x), epsilon=1e-6, weight=lane.put(weight, "float32"), memory_config=lane.t.DRAM_MEMORY_CONFIG,
                               compute_kernel_config=kernel(lane))
        return [lane.get(made)], [x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * weight]

    return case


def add(rows, width):
    def case(lane, random):
        a, b = normal(random, 1, 1, rows, width), normal(random, 1, 1, rows, width)
        return [lane.get(lane.t.add(lane.put(a), lane.put(b), memory_config=lane.t.DRAM_MEMORY_CONFIG))], [a + b]

    return case


def add_biases(rows, width):
    def case(lane, random):
        a, b = random.standard_normal((1, 1, rows, width)).astype(np.float32), 100 * random.standard_normal((1, 1, 1, width)).astype(np.float32)
        made = lane.t.add(lane.put(a, "float32"), lane.put(b, "float32"), memory_config=lane.t.DRAM_MEMORY_CONFIG, dtype=lane.t.bfloat16)
        return [lane.get(made)], [a.astype(np.float64) + b]

    return case


def scale(rows, width, factor):
    def case(lane, random):
        x = normal(random, 1, 1, rows, width)
        return [lane.get(lane.t.multiply(lane.put(x), factor, memory_config=lane.t.DRAM_MEMORY_CONFIG))], [x * factor]

    return case


def scale_by_float32(rows, width, factor):
    def case(lane, random):
        x, exact = normal(random, 1, 1, rows, width), np.float32(factor)
        made = lane.t.multiply(lane.put(x), lane.put(np.full((1, 1, 1, 1), exact), "float32"), memory_config=lane.t.DRAM_MEMORY_CONFIG,
                               dtype=lane.t.bfloat16)
        return [lane.get(made)], [x * np.float64(exact)]

    return case


def relu2(rows, width):
    def case(lane, random):
        x = normal(random, 1, 1, rows, width)
        on = lane.put(x)
        made = lane.t.mul(on, on, input_tensor_a_activations=[lane.t.UnaryOpType.RELU], memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made)], [np.maximum(x, 0)**2]

    return case


def softcap(rows, width, cap, dtype):
    def case(lane, random):
        t, x = lane.t, 20 * normal(random, 1, 1, rows, width)
        small = t.multiply(lane.put(x, dtype), 1 / cap, memory_config=t.DRAM_MEMORY_CONFIG)
        made = t.multiply(t.tanh(small, memory_config=t.DRAM_MEMORY_CONFIG), cap, memory_config=t.DRAM_MEMORY_CONFIG)
        return [lane.get(made)], [cap * np.tanh(x / cap)]

    return case


def gated(rows, width, activation):
    exact = {"SILU": lambda x: x / (1 + np.exp(-x)), "GELU_TANH": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))}[activation]

    def case(lane, random):
        gate, up = 2 * normal(random, 1, 1, rows, width), normal(random, 1, 1, rows, width)
        made = lane.t.mul(lane.put(gate), lane.put(up), input_tensor_a_activations=[getattr(lane.t.UnaryOpType, activation)],
                          memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made)], [exact(gate) * up]

    return case


def typecast(heads, rows, width, dtype):
    def case(lane, random):
        x = normal(random, 1, heads, rows, width)
        return [lane.get(lane.t.typecast(lane.put(x), getattr(lane.t, dtype), memory_config=lane.t.DRAM_MEMORY_CONFIG))], [x]

    return case


def rotary(heads, rows, width, decode):
    """rotary_embedding_hf, or rotary_embedding_llama where pairs are neighbours."""
    pairs = width % 64 != 0 and width != 32

    def case(lane, random):
        x = normal(random, *((1, rows, heads, width) if decode else (1, heads, rows, width)))
        angle = random.uniform(0, 6.28, (rows, width // 2))
        turn = [bfloat16(np.repeat(f(angle), 2, axis=-1) if pairs else np.tile(f(angle), 2)) for f in (np.cos, np.sin)]
        cos, sin = (part.reshape((1, rows, 1, width) if decode else (1, 1, rows, width)) for part in turn)
        memory = sharded(lane, rows, width) if decode else "DRAM"
        out = memory if decode else lane.t.DRAM_MEMORY_CONFIG
        on = [lane.put(part, memory=memory) for part in (x, cos, sin)]
        if pairs:
            squares = np.zeros((rows if decode else 1, 32, 32))
            for i in range(0, 32, 2):
                squares[:, i, i + 1], squares[:, i + 1, i] = 1, -1
            matrix = lane.put(squares.reshape(1, 1, -1, 32), memory=sharded(lane, rows, 32) if decode else "DRAM")
            made = lane.t.experimental.rotary_embedding_llama(*on, matrix, is_decode_mode=decode, memory_config=out, compute_kernel_config=kernel(lane))
            turned = np.stack([-x[..., 1::2], x[..., 0::2]], axis=-1).reshape(x.shape)
        else:
            made = lane.t.experimental.rotary_embedding_hf(*on, is_decode_mode=decode, memory_config=out, compute_kernel_config=kernel(lane))
            turned = np.concatenate([-x[..., width // 2:], x[..., :width // 2]], axis=-1)
        return [lane.get(made)], [x * cos + turned * sin]

    return case


def rotary_of_a_part(heads, rows, width, part, decode):
    def case(lane, random):
        t, x, half = lane.t, normal(random, *((1, rows, heads, width) if decode else (1, heads, rows, width))), part // 2
        angle, places = random.uniform(0, 6.28, (rows, half)), (1, rows, 1, width) if decode else (1, 1, rows, width)
        cos, sin = (bfloat16(np.concatenate([f(angle), f(angle), np.full((rows, width - part), rest)], axis=-1)).reshape(places)
                    for f, rest in ((np.cos, 1), (np.sin, 0)))
        matrix, ones = np.zeros((1, 1, width, width)), np.arange(half)
        matrix[..., ones, half + ones], matrix[..., half + ones, ones] = 1, -1
        on, to = lane.put(x), t.DRAM_MEMORY_CONFIG
        turned = t.linear(on, lane.put(matrix), memory_config=to, dtype=t.bfloat16, compute_kernel_config=kernel(lane))
        made = t.add(t.multiply(on, lane.put(cos), memory_config=to), t.multiply(turned, lane.put(sin), memory_config=to), memory_config=to)
        return [lane.get(made)], [x * cos + x @ matrix * sin]

    return case


def attend(q, k, v, positions, window):
    """q [heads, queries, width] at `positions`, k and v [kv_heads, keys, width]."""
    k, v = (np.repeat(part, len(q) // len(part), axis=0) for part in (k, v))
    distance = np.asarray(positions)[:, None] - np.arange(k.shape[1])
    scores = np.where((distance >= 0) & (distance < (window or 1 << 30)), q @ k.transpose(0, 2, 1) * q.shape[-1]**-0.5, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def paged(lane, random, rows, heads, width, pages, dtype):
    """A cache with the keys of each row of the page table, and these [rows, heads, keys, width]."""
    kept = lane.put(normal(random, pages, heads, PAGE, width), dtype)
    values = lane.get(kept)
    return kept, np.stack([np.concatenate([values[page] for page in row], axis=1) for row in rows])


def attention_of_a_chunk(start, queries, keys, heads, kv_heads, width, window, dtype="bfloat16"):
    def case(lane, random):
        pages = max(8, keys // PAGE + 1)
        table = np.concatenate([random.permutation(pages - 1)[: keys // PAGE], [pages - 1] * (-(keys // PAGE) % 8)]).astype(np.int32)[None]
        q = normal(random, 1, heads, queries, width)
        (k, exact_k), (v, exact_v) = (paged(lane, random, table[:, : keys // PAGE], kv_heads, width, pages, dtype) for _ in range(2))
        made = lane.t.transformer.chunked_scaled_dot_product_attention(
            lane.put(q), k, v, integers(lane, table), chunk_start_idx_tensor=integers(lane, [start]), scale=float(np.float32(width**-0.5)), sliding_window_size=window,
            program_config=attention_config(lane, 128, 128), compute_kernel_config=kernel(lane), memory_config=lane.t.DRAM_MEMORY_CONFIG)
        return [lane.get(made)[0]], [attend(q[0], exact_k[0], exact_v[0], range(start, start + queries), window)]

    return case


def attention_of_a_decode(positions, heads, kv_heads, width, window, dtype="bfloat16"):
    """A user at position -1 is nobody: what it gets is not looked at."""

    def case(lane, random):
        users, held = len(positions), max(8, -(-(max(positions) + 1) // PAGE))
        pages = users * held + 1
        table = random.permutation(pages - 1).reshape(users, held).astype(np.int32)
        q = normal(random, 1, users, heads, width)
        (k, exact_k), (v, exact_v) = (paged(lane, random, table, kv_heads, width, pages, dtype) for _ in range(2))
        made = lane.get(lane.t.transformer.paged_scaled_dot_product_attention_decode(
            lane.put(q), k, v, integers(lane, table), cur_pos_tensor=integers(lane, positions), scale=float(np.float32(width**-0.5)), sliding_window_size=window,
            program_config=attention_config(lane, 32, 256), compute_kernel_config=kernel(lane), memory_config=lane.t.DRAM_MEMORY_CONFIG))
        somebody = [user for user in range(users) if positions[user] >= 0]
        exact = [attend(q[0, user][:, None], exact_k[user], exact_v[user], positions[user: user + 1], window)[:, 0] for user in somebody]
        return [made[0, somebody]], [np.stack(exact)]

    return case


BYTES = {f"{dtype}, there and back": there_and_back(dtype) for dtype in ("bfloat16", "float32", "bfloat8_b", "bfloat4_b")}

MOVES = {
    "embedding of 64": embedding(200, 64, 32),
    "embedding of 128, a chunk": embedding(300, 128, 128),
    "to_layout of logits": to_rows(32, 320),
    "to_layout of logits in float32": to_rows(32, 320, "float32"),
    "rows of a chunk by their numbers": rows_by_number(128, 64, [3, 127, 40, 0]),
    "copy": copy(32, 320),
    "argmax": argmax(32, 320),
    "topk": topk(32, 320, 32),
    "fill": fill(8, 2, 64),
    "nlp_create_qkv_heads": create_heads(128, 4, 2, 64, False),
    "nlp_create_qkv_heads, heads of 96": create_heads(128, 4, 4, 96, False),
    "nlp_create_qkv_heads_decode": create_heads(4, 4, 2, 64, True),
    "nlp_create_qkv_heads_decode, 32 users": create_heads(32, 4, 4, 96, True),
    "nlp_create_qkv_heads of queries alone": heads_alone(128, 4, 64, False),
    "nlp_create_qkv_heads_decode of queries alone": heads_alone(4, 4, 64, True),
    "nlp_concat_heads": concat_heads(128, 4, 64),
    "nlp_concat_heads_decode": concat_heads_of_a_decode(4, 4, 64),
    "nlp_concat_heads_decode, heads of 96": concat_heads_of_a_decode(2, 4, 96),
    "nlp_concat_heads_decode, 32 users": concat_heads_of_a_decode(32, 4, 64),
    "a page copied": copy_page(2, 64, "bfloat16"),
    "a page copied, bfloat8_b": copy_page(2, 64, "bfloat8_b"),
    "paged_fill_cache": fill_pages(2, 64, "bfloat16"),
    "paged_fill_cache, bfloat8_b": fill_pages(2, 64, "bfloat8_b"),
    "paged_update_cache": update_pages(4, 2, 64, "bfloat16"),
    "paged_update_cache, 32 users": update_pages(32, 2, 64, "bfloat16"),
    "paged_update_cache, heads of 96": update_pages(3, 4, 96, "bfloat16"),
    "paged_update_cache, bfloat8_b": update_pages(4, 2, 64, "bfloat8_b"),
    "paged_update_cache, nobody's": update_pages(8, 2, 64, "bfloat16", of_nobody=3),
}

TINY = {
    "linear of 128, bfloat16": linear(32, 128, 64, "bfloat16"),
    "linear of 128, bfloat8_b": linear(32, 128, 64, "bfloat8_b"),
    "linear of 128, bfloat8_b, HiFi2": linear(128, 128, 64, "bfloat8_b", "HiFi2"),
    "linear of 256, bfloat4_b": linear(32, 256, 128, "bfloat4_b"),
    "linear of 256, bfloat4_b, HiFi2": linear(128, 256, 128, "bfloat4_b", "HiFi2"),
    "linear of 128 into float32": linear(32, 128, 320, "bfloat16", output="float32"),
    "rms_norm": rms_norm(1, 1, 32, 128),
    "rms_norm of heads": rms_norm(1, 4, 128, 64),
    "add": add(64, 128),
    "add of biases": add_biases(32, 192),
    "multiply": scale(32, 128, 11.3125),
    "multiply by a float32 factor": scale_by_float32(64, 128, 0.22),
    "mul with RELU of itself": relu2(32, 256),
    "softcap, bfloat16": softcap(32, 256, 30.0, "bfloat16"),
    "softcap, float32": softcap(32, 256, 30.0, "float32"),
    "mul with SILU": gated(32, 256, "SILU"),
    "mul with GELU_TANH": gated(32, 256, "GELU_TANH"),
    "typecast to bfloat8_b": typecast(2, 128, 64, "bfloat8_b"),
    "rotary_embedding_hf": rotary(4, 128, 64, False),
    "rotary_embedding_hf, decode": rotary(4, 3, 64, True),
    "rotary_embedding_llama": rotary(4, 128, 96, False),
    "rotary_embedding_llama, decode": rotary(4, 3, 96, True),
    "rotary of a part": rotary_of_a_part(4, 128, 128, 96, False),
    "rotary of a part, decode": rotary_of_a_part(4, 3, 128, 96, True),
    "attention of a chunk": attention_of_a_chunk(0, 128, 128, 4, 2, 64, None),
    "attention of a chunk that goes on": attention_of_a_chunk(256, 128, 384, 4, 2, 64, None),
    "attention of a chunk, window 16": attention_of_a_chunk(128, 128, 256, 4, 2, 64, 16),
    "attention of a chunk, window 100": attention_of_a_chunk(256, 128, 384, 4, 2, 64, 100),
    "attention of a chunk, window 128": attention_of_a_chunk(128, 256, 384, 4, 2, 64, 128),
    "attention of a chunk, bfloat8_b": attention_of_a_chunk(128, 128, 256, 4, 2, 64, None, "bfloat8_b"),
    "attention of a decode": attention_of_a_decode([70, 200], 4, 2, 64, None),
    "attention of a decode, window 16": attention_of_a_decode([7, 70, 200], 4, 2, 64, 16),
    "attention of a decode, window 128": attention_of_a_decode([70, 200, 500], 8, 4, 64, 128),
    "attention of a decode, bfloat8_b": attention_of_a_decode([70, 200], 4, 2, 64, None, "bfloat8_b"),
    "attention of a decode, 32 heads": attention_of_a_decode([70, 200], 32, 8, 64, None),
    "attention of a decode, nobody's": attention_of_a_decode([70, -1, 200, -1], 4, 2, 64, None),
    "attention of a decode, 32 users": attention_of_a_decode([37 * user % 256 for user in range(32)], 4, 2, 64, None),
}


def layer(hidden, heads, kv_heads, head_dim, inner, activation, window):
    """A decode's and a chunk's calls of one layer at a model's full width, bfloat8_b."""
    qkv = (heads + 2 * kv_heads) * head_dim
    return {
        "rms_norm": rms_norm(1, 1, 32, hidden),
        "qkv": linear(32, hidden, qkv, "bfloat8_b"),
        "output": linear(32, heads * head_dim, hidden, "bfloat8_b"),
        "gate": linear(32, hidden, inner, "bfloat8_b"),
        "down": linear(32, inner, hidden, "bfloat8_b"),
        "down, HiFi2": linear(128, inner, hidden, "bfloat8_b", "HiFi2"),
        "heads": create_heads(128, heads, kv_heads, head_dim, False),
        "heads of a decode": create_heads(2, heads, kv_heads, head_dim, True),
        "rotary": rotary(heads, 128, head_dim, False),
        "rotary of a decode": rotary(heads, 2, head_dim, True),
        "update": update_pages(2, kv_heads, head_dim, "bfloat16"),
        "attention of a chunk": attention_of_a_chunk(128, 128, 256, heads, kv_heads, head_dim, window),
        "attention of a decode": attention_of_a_decode([70, 200], heads, kv_heads, head_dim, window),
        "concat": concat_heads(128, heads, head_dim),
        "concat of a decode": concat_heads_of_a_decode(2, heads, head_dim),
        "gated": gated(32, inner, activation),
        "add": add(32, hidden),
    }


FULL = {
    **{f"Gemma 3 4B, {name}": case for name, case in layer(2560, 8, 4, 256, 10240, "GELU_TANH", 1024).items()},
    **{f"Phi-3 Mini, {name}": case for name, case in layer(3072, 32, 32, 96, 8192, "SILU", None).items()},
}
# What wolfpine 2.2 computes right; on one core each, since it is slow. It has no bfloat8_b.
WOLFPINE = {
    "embedding": embedding(64, 32, 32),
    "nlp_create_qkv_heads": create_heads(32, 2, 1, 32, False),
    "add": add(32, 32),
    "linear": linear(32, 32, 32, "bfloat16"),
    "rms_norm": rms_norm(1, 1, 32, 64),
    "mul with SILU": gated(32, 32, "SILU"),
    "mul with GELU_TANH": gated(32, 32, "GELU_TANH"),
    "rotary_embedding_hf": rotary(1, 32, 64, False),
    "rotary_embedding_llama": rotary(1, 32, 96, False),
}
GROUPS = {"bytes": BYTES, "moves": MOVES, "tiny": TINY, "full": FULL}  # on the simulated card


def off(values, exact):
    values, exact = (np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts]) for parts in (values, exact))
    return float(np.linalg.norm(values - exact) / max(np.linalg.norm(exact), 1e-30)) if np.isfinite(values).all() else float("inf")


def rows_kept(lane, random):
    """Of 20 successive rows of one sequence, given as 20 users of one call."""
    cache, x = lane.put(np.zeros((8, 2, PAGE, 64))), normal(random, 1, 20, 2, 64)
    lane.t.experimental.paged_update_cache(cache, lane.put(x, memory=sharded(lane, 20, 64)), update_idxs_tensor=integers(lane, range(20)),
                                           page_table=integers(lane, [[3] + [7] * 7] * 20))
    return sum(np.array_equal(lane.get(cache)[3, :, row], x[0, row]) for row in range(20))


def main(group, names):
    card, place = Card(), PlaceHolder()
    if group == "old":
        print(json.dumps({"case": "rows kept", **{lane: rows_kept(on, np.random.default_rng(3)) for lane, on in (("card", card), ("place", place))}}), flush=True)
        return
    for name, case in {**GROUPS, "wolfpine": WOLFPINE}[group].items():
        if names and name not in names:
            continue
        start = time.monotonic()
        here, exact = case(card, np.random.default_rng(list(name.encode())))
        took = time.monotonic() - start
        there, _ = case(place, np.random.default_rng(list(name.encode())))
        print(json.dumps({"case": name, "card": off(here, exact), "place": off(there, exact), "apart": off(here, there), "seconds": round(took, 2)}), flush=True)
    print(json.dumps({"case": "closed"}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

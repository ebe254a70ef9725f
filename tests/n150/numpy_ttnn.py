"""TTNN's place-holder: exactly the calls that the n150's device makes, computed in NumPy, with the digits that TTNN's kernels drop and round away on
the way (not the order of their sums), and with the layouts, shards and types checked that TTNN checks. `open_device("n150", module="numpy_ttnn")`."""
import functools
from types import SimpleNamespace

import numpy as np
from block_float_model import MAGNITUDE_BITS, decode, encode

USERS, TILE, PAGE = 32, 32, 64
DRAM_MEMORY_CONFIG, L1_HEIGHT_SHARDED_MEMORY_CONFIG = "DRAM", "HEIGHT_SHARDED"
TILE_LAYOUT, ROW_MAJOR_LAYOUT = "TILE", "ROW_MAJOR"
float32, bfloat16, bfloat8_b, bfloat4_b, int32, uint32 = "float32", "bfloat16", "bfloat8_b", "bfloat4_b", "int32", "uint32"
MathFidelity = SimpleNamespace(HiFi2="HiFi2", HiFi4="HiFi4")
TensorMemoryLayout = SimpleNamespace(HEIGHT_SHARDED="HEIGHT_SHARDED")
ShardOrientation = SimpleNamespace(ROW_MAJOR="ROW_MAJOR")
BufferType = SimpleNamespace(L1="L1", DRAM="DRAM")
UnaryOpType = SimpleNamespace(GELU_TANH="GELU_TANH", SILU="SILU", RELU="RELU")
WormholeComputeKernelConfig = SDPAProgramConfig = SimpleNamespace


def Shape(sizes):
    return tuple(sizes)


def MeshCoordinate(*at):
    return at


def num_cores_to_corerangeset(cores, grid, row_wise):
    require(row_wise and cores <= 64, f"{cores} cores")
    return cores


def ShardSpec(cores, shape, orientation):
    return cores, tuple(shape)


def MemoryConfig(layout, buffer, shard):
    return ("HEIGHT_SHARDED", *shard)


def require(ok, reason):
    if not ok:
        raise RuntimeError(f"TT_FATAL @ numpy_ttnn.py: refused\ninfo:\n{reason}\nbacktrace:\n")


class Card:
    def compute_with_storage_grid_size(self):
        return 8, 8


def open_device(device_id, trace_region_size):
    return Card()


def close_device(card):
    pass


def get_memory_view(card, buffer):
    return SimpleNamespace(num_banks=12, total_bytes_free_per_bank=1_072_693_184 // 2)  # a card half full, whatever it holds


def rounded(values, dtype):
    """float32 values that the type can hold."""
    values = np.ascontiguousarray(values, np.float32)
    if dtype == bfloat16:
        words = values.view(np.uint32).astype(np.uint64)
        return ((words + 0x7FFF + (words >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    if dtype in MAGNITUDE_BITS:
        bits, width = MAGNITUDE_BITS[dtype], values.shape[-1]
        padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -width % 16)])
        return decode(*encode(padded.reshape(-1, 16), bits), bits).view(np.float32).reshape(padded.shape)[..., :width]
    return values


def truncated(values, bits):
    """float32 values without their lowest bits: 13 of 23 are not in TF32, as which the matrix unit reads float32."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (words & np.uint32((0xFFFFFFFF << bits) & 0xFFFFFFFF)).view(np.float32)


def packed(values, bits=16):
    """float32 values without their lowest bits, rounded half away from zero as the matrix unit and the packer do; bfloat16 lacks 16."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return truncated((words + (1 << (bits - 1))).astype(np.uint32).view(np.float32), bits)


def added(a, b):
    """bfloat16 values in the matrix unit: both are rounded to the larger's eleventh digit, their sum to its eighth, half away from zero."""
    step = np.ldexp(np.float32(1), np.frexp(np.maximum(np.abs(a), np.abs(b)))[1] - 11)
    return packed(sum(np.trunc(x / step + np.copysign(np.float32(0.5), x)) * step for x in (a, b)))


def packed_blocks(values, dtype):
    """bfloat16 values of which bfloat8_b takes those in the middle away from zero: a little more than the middle is none."""
    return rounded((packed(values).view(np.uint32) | np.uint32(0x4000)).view(np.float32), dtype) if dtype in MAGNITUDE_BITS else values


class Tensor:
    """`values` have the logical shape; `memory` is DRAM or ("HEIGHT_SHARDED", cores, shard)."""

    def __init__(self, values, dtype=bfloat16, layout=TILE_LAYOUT, memory=DRAM_MEMORY_CONFIG):
        self.values = rounded(values, dtype) if dtype not in (int32, uint32) else values
        self.dtype, self.layout, self.memory = dtype, layout, memory

    @property
    def shape(self):
        return self.values.shape


class HostTensor:
    """Bytes as they lie on the card."""

    def __init__(self, shape, dtype, layout):
        self.shape, self.dtype, self.layout = shape, dtype, layout
        rows, columns = int(np.prod(shape[:-1], dtype=int)), shape[-1]
        if layout == TILE_LAYOUT:
            rows, columns = int(np.prod(shape[:-2], dtype=int)) * up(shape[-2]), up(columns)
        self.padded = rows, columns
        sizes = {float32: 1024 * 4, bfloat16: 1024 * 2, bfloat8_b: 1088, bfloat4_b: 576, int32: 1024 * 4, uint32: 1024 * 4}
        self.bytes = np.zeros(rows * columns * sizes[dtype] // 1024, np.uint8)

    def host_buffer(self):
        return SimpleNamespace(get_shard=lambda coordinate: self.bytes)

    def values(self):
        rows, columns = self.padded
        if self.dtype in MAGNITUDE_BITS:
            flat = self.block_values()
        elif self.dtype == bfloat16:
            flat = (self.bytes.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            flat = self.bytes.view({float32: np.float32, int32: np.int32, uint32: np.uint32}[self.dtype])
        if self.layout == ROW_MAJOR_LAYOUT:
            return flat.reshape(self.shape).copy()
        faces = flat.reshape(rows // 32, columns // 32, 2, 2, 16, 16)
        whole = faces.transpose(0, 2, 4, 1, 3, 5).reshape(*self.shape[:-2], up(self.shape[-2]), columns)
        return whole[..., : self.shape[-2], : self.shape[-1]].copy()

    def block_values(self):
        bits = MAGNITUDE_BITS[self.dtype]
        tiles = self.bytes.reshape(-1, 64 + 1024 * (bits + 1) // 8)
        codes = tiles[:, 64:]
        if bits == 3:
            codes = np.stack([codes & 15, codes >> 4], axis=-1)
        return decode(tiles[:, :64].reshape(-1), codes.reshape(-1, 16), bits).view(np.float32).reshape(-1)


def up(size):
    return -(-size // TILE) * TILE


def allocate_tensor_on_host(shape, dtype, layout, card):
    return HostTensor(shape, dtype, layout)


def fits(tensor, memory):
    if memory != DRAM_MEMORY_CONFIG:
        shards = int(np.prod(tensor.shape[:-2])) * up(tensor.shape[-2]) // TILE
        require(memory == ("HEIGHT_SHARDED", shards, (TILE, tensor.shape[-1])), f"{tensor.shape} does not lie in shards {memory}")


def to_device(host, card, memory_config):
    fits(host, memory_config)
    return Tensor(host.values(), host.dtype, host.layout, memory_config)


def copy_host_to_device_tensor(host, tensor):
    require((host.shape, host.dtype, host.layout) == (tensor.shape, tensor.dtype, tensor.layout), f"{host.shape} {host.dtype} into {tensor.shape}")
    np.copyto(tensor.values, host.values())


def from_device(tensor):
    require(tensor.layout == ROW_MAJOR_LAYOUT and tensor.dtype in (float32, bfloat16, uint32), f"reading {tensor.layout} {tensor.dtype}")
    host = HostTensor(tensor.shape, tensor.dtype, tensor.layout)
    words = np.ascontiguousarray(tensor.values).view(np.uint32)
    host.bytes[:] = (words if tensor.dtype != bfloat16 else (words >> 16).astype(np.uint16)).reshape(-1).view(np.uint8)
    return host


def empty(shape, dtype, layout, card, memory):
    return Tensor(np.full(shape, np.nan, np.float32) if dtype == bfloat16 else np.zeros(shape, np.float32), dtype, layout, memory)


def fill(tensor, value, output_tensor):
    output_tensor.values[:] = value
    return output_tensor


def copy(tensor, to):
    require((tensor.shape, tensor.dtype, tensor.layout) == (to.shape, to.dtype, to.layout), f"{tensor.shape} {tensor.dtype} into {to.shape} {to.dtype}")
    np.copyto(to.values, tensor.values)
    return to


def in_dram(*tensors):
    for tensor in tensors:
        require(tensor.memory == DRAM_MEMORY_CONFIG and tensor.layout == TILE_LAYOUT, f"{tensor.shape} is {tensor.memory} {tensor.layout}, not tiles in DRAM")


def slice(tensor, starts, ends, slice_dim, num_devices, memory_config):
    """One of as many parts as there are devices: the one at `starts`, a value."""
    in_dram(tensor)
    require(slice_dim == 0 and num_devices == tensor.shape[0] and starts is ends, f"slice of {tensor.shape} in {num_devices} along {slice_dim}")
    require(starts.dtype == uint32 and starts.shape == (512,), f"slice at {starts.shape} {starts.dtype}")  # a tile's bytes are read
    first = starts.values[0]
    return Tensor(tensor.values[first : first + 1].copy(), tensor.dtype)


def to_layout(tensor, layout, memory_config):
    return Tensor(tensor.values, tensor.dtype, layout)


def to_memory_config(tensor, memory):
    fits(tensor, memory)
    return Tensor(tensor.values, tensor.dtype, tensor.layout, memory)


def typecast(tensor, dtype, memory_config):
    return Tensor(packed_blocks(tensor.values, dtype), dtype)


def reshape(tensor, shape, padded_shape=None):
    in_dram(tensor)
    if padded_shape:  # rows of a tile that are seen
        require(padded_shape == (*shape[:2], up(shape[2]), up(shape[3])) and tensor.shape == (*padded_shape[:3], shape[3]), f"{tensor.shape} as {shape}")
        seen = Tensor(np.zeros(shape, np.float32), tensor.dtype)
        seen.values = tensor.values[:, :, : shape[2]]
        return seen
    return Tensor(tensor.values.reshape(shape), tensor.dtype)


def embedding(ids, table, layout, memory_config):
    require(ids.layout == table.layout == ROW_MAJOR_LAYOUT and ids.dtype == uint32 and len(ids.shape) == 2, "embedding")
    return Tensor(table.values[0, 0][ids.values])


def linear(x, weight, memory_config, dtype, compute_kernel_config):
    in_dram(x, weight)
    require(x.shape[-1] == weight.shape[-2] and weight.shape[:2] == (1, 1), f"{x.shape} times {weight.shape}")
    # Of a bfloat16 in0, HiFi2's passes do not see the lowest bit.
    values = truncated(x.values, 17) if compute_kernel_config.math_fidelity == "HiFi2" else x.values
    return Tensor(values @ weight.values, dtype)


def rms_norm(x, epsilon, weight, memory_config, compute_kernel_config):
    in_dram(x, weight)
    require(weight.shape == (1, 1, 1, x.shape[-1]), f"norm {weight.shape} of {x.shape}")
    mean = truncated(truncated(x.values**2, 13).mean(axis=-1, keepdims=True), 13)
    factor = truncated(1 / np.sqrt(truncated(mean + np.float32(epsilon), 13)), 13)
    return Tensor(packed(truncated(x.values * factor, 14) * truncated(weight.values, 13)))  # the left factor of a product has a bit less


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def mul(a, b, input_tensor_a_activations, memory_config):
    in_dram(a, b)
    activation = {"GELU_TANH": gelu_tanh, "SILU": silu, "RELU": relu}[input_tensor_a_activations[0]]
    return Tensor(rounded(activation(a.values), bfloat16) * b.values)


def multiply(a, b, memory_config, dtype=None):
    """By a number, which is rounded to the tensor's type, or by a tensor, of one value or of one for all heads."""
    in_dram(a)
    if not isinstance(b, Tensor):
        return Tensor(a.values * rounded(b, a.dtype), dtype or a.dtype)
    in_dram(b)
    require(all(of_b in (1, of_a) for of_a, of_b in zip(a.shape, b.shape)), f"{a.shape} times {b.shape}")
    return Tensor(a.values * b.values, dtype or a.dtype)


def concat(tensors, dim, memory_config):
    in_dram(*tensors)
    return Tensor(np.concatenate([tensor.values for tensor in tensors], axis=dim))


def add(a, b, memory_config, dtype=None):
    in_dram(a, b)
    require(a.dtype == b.dtype and b.shape in (a.shape, (1, 1, 1, a.shape[-1])), f"{a.shape} {a.dtype} plus {b.shape} {b.dtype}")
    return Tensor(added(a.values, b.values) if a.dtype == bfloat16 else a.values + b.values, dtype or a.dtype)


def tanh(x, memory_config):
    return Tensor(np.tanh(x.values), x.dtype)


def argmax(x, dim):
    require(dim == -1 and x.layout == ROW_MAJOR_LAYOUT, f"argmax of {x.layout} over {dim}")
    return Tensor(x.values.argmax(axis=-1).astype(np.uint32), uint32, ROW_MAJOR_LAYOUT)


def topk(x, k, dim):
    """Of equal values the last come first: TTNN promises nothing of them."""
    in_dram(x)
    require(dim == -1 and k <= 64, f"topk of {k} over {dim}")
    ids = np.argsort(x.values, axis=-1, kind="stable")[..., ::-1][..., :k]
    return Tensor(np.take_along_axis(x.values, ids, axis=-1), x.dtype), Tensor(ids.astype(np.uint32), uint32)


def sharded(tensor, users):
    require(tensor.memory == ("HEIGHT_SHARDED", users, (TILE, tensor.shape[3])), f"{tensor.shape} is {tensor.memory}, not one user a core")


def split_heads(qkv, num_heads, num_kv_heads):
    tokens, width = qkv.shape[2:]
    heads = qkv.values.reshape(tokens, num_heads + 2 * num_kv_heads, width // (num_heads + 2 * num_kv_heads))
    return np.split(heads, [num_heads, num_heads + num_kv_heads], axis=1)


def nlp_create_qkv_heads(qkv, num_heads, num_kv_heads, transpose_k_heads, memory_config):
    in_dram(qkv)
    require(not transpose_k_heads, "transposed keys")
    return tuple(Tensor(part.transpose(1, 0, 2)[None]) for part in split_heads(qkv, num_heads, num_kv_heads))


def nlp_create_qkv_heads_decode(qkv, num_heads, num_kv_heads, memory_config):
    in_dram(qkv)
    users = qkv.shape[2]
    require(users <= USERS and num_heads <= TILE and num_kv_heads > 0, f"{users} users with {num_heads} heads and {num_kv_heads} of keys")
    return tuple(Tensor(part[None], memory=("HEIGHT_SHARDED", users, (TILE, part.shape[2]))) for part in split_heads(qkv, num_heads, num_kv_heads))


def nlp_concat_heads(x, memory_config):
    in_dram(x)
    return Tensor(x.values[0].transpose(1, 0, 2).reshape(1, 1, x.shape[2], -1))


def nlp_concat_heads_decode(x, num_heads):
    users, head_dim = x.shape[1], x.shape[3]
    sharded(x, users)
    require(users in (1, 2, 4, 8, 16, 32) and num_heads == x.shape[2] <= TILE, f"{users} users with {num_heads} heads")
    rows = np.full((1, 1, TILE, num_heads * head_dim), np.nan, np.float32)
    rows[:, :, :users] = x.values.reshape(users, -1)
    return Tensor(rows, memory=("WIDTH_SHARDED", num_heads, (TILE, head_dim)))


def rotate(x, cos, sin, turned, is_decode_mode, memory_config):
    if is_decode_mode:
        for tensor in (x, cos, sin):
            sharded(tensor, x.shape[1])
        require(cos.shape == (1, x.shape[1], 1, x.shape[3]), f"cos {cos.shape} for {x.shape}")
    else:
        in_dram(x, cos, sin)
        require(cos.shape == (1, 1, x.shape[2], x.shape[3]), f"cos {cos.shape} for {x.shape}")
    return Tensor(added(packed(x.values * cos.values), packed(turned * sin.values)), memory=x.memory)


def rotary_embedding_hf(x, cos, sin, is_decode_mode, memory_config, compute_kernel_config):
    require(x.shape[3] == 32 or x.shape[3] % 64 == 0, f"Input X dimension ({x.shape[3]}) must be either 32 or divisible by 64")
    low, high = np.split(x.values, 2, axis=-1)
    return rotate(x, cos, sin, np.concatenate([-high, low], axis=-1), is_decode_mode, memory_config)


def rotary_embedding_llama(x, cos, sin, matrix, is_decode_mode, memory_config, compute_kernel_config):
    require(matrix.shape == (1, 1, 32 * (x.shape[1] if is_decode_mode else 1), 32), f"matrix {matrix.shape}")
    turned = x.values.reshape(*x.shape[:3], -1, 32) @ matrix.values[0, 0, -32:]
    return rotate(x, cos, sin, turned.reshape(x.shape), is_decode_mode, memory_config)


def check_table(table, cache):
    require(table.dtype == int32 and table.layout == ROW_MAJOR_LAYOUT and len(table.shape) == 2, "page table")
    require(table.shape[1] <= cache.shape[0], f"max_num_blocks_per_seq must be less than max_num_blocks: {table.shape[1]}, {cache.shape[0]}")


def paged_update_cache(cache, x, update_idxs_tensor, page_table):
    sharded(x, x.shape[1])
    check_table(page_table, cache)
    values = packed_blocks(packed(x.values, 17), cache.dtype) if cache.dtype in MAGNITUDE_BITS else x.values
    tiles = []  # each user's core reads the tile of its row and writes it back, and none waits for another
    for user, position in enumerate(update_idxs_tensor.values):
        if position == -1:
            continue
        row = position % PAGE
        place = np.s_[page_table.values[user, position // PAGE], :, row - row % TILE:row - row % TILE + TILE]
        tile = cache.values[place].copy()
        tile[:, row % TILE] = values[0, user]
        tiles.append((place, tile))
    for place, tile in tiles:
        cache.values[place] = tile


def paged_fill_cache(cache, x, page_table, batch_idx):
    in_dram(x)
    require(x.dtype == cache.dtype, "Input and cache tensors must have same dtype!")
    require(x.shape[2] % PAGE == 0 and x.shape[2] // PAGE <= page_table.shape[1], f"{x.shape} into {page_table.shape} pages")
    for i in range(x.shape[2] // PAGE):
        cache.values[page_table.values[batch_idx, i]] = x.values[0, :, i * PAGE:(i + 1) * PAGE]


def attend(q, keys, values, first, scale, window, softmax):
    """q [heads, queries, head_dim] at positions from `first` on, keys and values [kv_heads, positions, head_dim]."""
    keys, values = (np.repeat(x, len(q) // len(x), axis=0) for x in (keys, values))
    scores = q @ keys.transpose(0, 2, 1)
    distance = first + np.arange(q.shape[1])[:, None] - np.arange(keys.shape[1])
    return softmax(np.where((distance >= 0) & (distance < (window or 1 << 30)), scores, -np.inf), values, np.float32(scale))


def chunk_softmax(scores, values, scale, chunk):
    """Scores and weights are float32, read as TF32; maxima and sums of values are bfloat16 after each chunk of keys."""
    scores, total, out, largest = truncated(scores, 13), 0, 0, np.float32(-1e30)
    for begin in range(0, scores.shape[-1], chunk):
        part = scores[..., begin:begin + chunk]
        top = np.maximum(largest, truncated(part.max(axis=-1, keepdims=True), 16))
        weights, factor = truncated(np.exp((part - top) * scale), 13), packed(np.exp((largest - top) * scale))
        total, largest = total * factor + weights.sum(axis=-1, keepdims=True), top
        out = packed(packed(weights @ values[:, begin:begin + chunk]) + packed(out * factor))
    return packed(out / total)


@np.errstate(divide="ignore", invalid="ignore")  # a capture's positions may be anything: no key is seen then
def decode_softmax(scores, values, scale, chunk):
    """All between the steps is bfloat16; chunks of keys are merged by their maxima. Tiles of 16 rows take the approximate exp, whatever is asked for."""
    scores, exp = packed(scores), approximate_exp if len(scores) <= TILE // 2 else np.exp
    total, out, largest = 0, np.zeros((*scores.shape[:-1], values.shape[-1]), np.float32), scores.max(axis=-1, keepdims=True)
    for begin in range(0, scores.shape[-1], chunk):
        part = scores[..., begin:begin + chunk]
        top = part.max(axis=-1, keepdims=True)
        if np.isfinite(top).all():
            weights, factor = packed(exp((part - top) * scale)), np.exp((top - largest) * scale)
            total = total + packed(weights.sum(axis=-1, keepdims=True)) * factor
            out = out + packed(weights @ values[:, begin:begin + chunk]) * factor
    return packed(packed(out) * packed(1 / packed(total)))


def approximate_exp(x):
    """Schraudolph's: a float's bits are nearly linear in its logarithm. 256 steps an octave, less 11.18 of them to balance the error."""
    steps = np.rint(np.maximum(x, -1000) * np.float32(256 / np.log(2)) + np.float32(32500.818359375))
    return (np.maximum(steps, 0).astype(np.uint32) << 15).view(np.float32)


def pages(cache, row, count):
    return cache.values[row[: -(-count // PAGE)]].transpose(1, 0, 2, 3).reshape(cache.shape[1], -1, cache.shape[3])[:, :count]


def paged_scaled_dot_product_attention_decode(q, keys, values, page_table, cur_pos_tensor, scale, sliding_window_size, program_config,
                                              compute_kernel_config, memory_config):
    check_table(page_table, keys)
    require(program_config.k_chunk_size >= 64, "k_chunk_size")
    out = np.full_like(q.values, np.nan)  # what memory holds where nobody is
    softmax = functools.partial(decode_softmax, chunk=program_config.k_chunk_size)
    for user, position in enumerate(cur_pos_tensor.values):
        if position == -1:
            continue
        known = [pages(cache, page_table.values[user], position + 1) for cache in (keys, values)]
        out[0, user] = attend(q.values[0, user][:, None], *known, position, scale, sliding_window_size, softmax)[:, 0]
    return Tensor(out)


def chunked_scaled_dot_product_attention(q, keys, values, page_table, chunk_start_idx_tensor, scale, sliding_window_size, program_config,
                                         compute_kernel_config, memory_config):
    in_dram(q)
    check_table(page_table, keys)
    require(page_table.shape[1] % 8 == 0, "page table stick size must be a multiple of 32")
    start = int(chunk_start_idx_tensor.values[0])
    require(start % program_config.q_chunk_size == 0 and q.shape[2] % program_config.q_chunk_size == 0, f"chunk of {q.shape[2]} at {start}")
    known = [pages(cache, page_table.values[0], start + q.shape[2]) for cache in (keys, values)]
    softmax = functools.partial(chunk_softmax, chunk=program_config.k_chunk_size)
    return Tensor(attend(q.values[0], *known, start, scale, sliding_window_size, softmax)[None])


experimental = SimpleNamespace(**{f.__name__: f for f in (nlp_create_qkv_heads, nlp_create_qkv_heads_decode, nlp_concat_heads, nlp_concat_heads_decode,
                                                          rotary_embedding_hf, rotary_embedding_llama, paged_update_cache, paged_fill_cache)})
transformer = SimpleNamespace(**{f.__name__: f for f in (paged_scaled_dot_product_attention_decode, chunked_scaled_dot_product_attention)})

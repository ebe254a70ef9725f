"""The NumPy place-holder of TTNN: it takes and refuses what TTNN does on the mock card, and computes what plain loops in float64 compute."""
import math

import numpy as np
import numpy_ttnn as place
import pytest
from conversations import Talk, whole_conversation
from tandem import Disagreement, Tandem
from tiny_models import model

MODELS = ["small-gemma3-window-128", "small-gemma3-softcap-head-dim-256", "small-phi3-longrope-128", "small-llama-biases", "small-qwen2",
          "small-qwen3", "small-phi3-partial-rotary", "small-arcee", "small-granite", "small-olmo3"]


@pytest.fixture
def tandem(ttnn, card):
    return Tandem(ttnn, card)


@pytest.mark.parametrize("weights, cache", [("bfloat8_b", "bfloat16"), ("bfloat16", "bfloat8_b")])
@pytest.mark.parametrize("name", MODELS)
def test_every_call_that_the_device_makes_is_taken_by_both_with_the_same_tensors(core, tandem, measured, name, weights, cache):
    device = core.open_device(tandem.card, module="tandem_ttnn")
    whole_conversation(Talk(core, device, model(name), weights=weights, cache=cache))
    measured(f"{name}, {weights} weights, {cache} cache: {len(tandem.calls)} calls of {len(set(tandem.calls))} kinds, alike on both")
    assert len(tandem.calls) > 300


def tensors(tandem, *shapes, dtype="bfloat16", memory=None, layout="TILE_LAYOUT"):
    memory = memory or tandem.DRAM_MEMORY_CONFIG
    return [tandem.to_device(tandem.allocate_tensor_on_host(tandem.Shape(shape), getattr(tandem, dtype), getattr(tandem, layout), tandem.card), tandem.card,
                             memory_config=memory) for shape in shapes]


def in_shards(tandem, users, width):
    cores = tandem.num_cores_to_corerangeset(users, tandem.card.compute_with_storage_grid_size(), row_wise=True)
    spec = tandem.ShardSpec(cores, [32, width], tandem.ShardOrientation.ROW_MAJOR)
    return tandem.MemoryConfig(tandem.TensorMemoryLayout.HEIGHT_SHARDED, tandem.BufferType.L1, spec)


def kernel(tandem):
    return tandem.WormholeComputeKernelConfig(math_fidelity=tandem.MathFidelity.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True)


def refused_linear(t):
    t.linear(*tensors(t, (1, 1, 32, 64), (1, 1, 96, 64)), memory_config=t.DRAM_MEMORY_CONFIG, dtype=t.bfloat16, compute_kernel_config=kernel(t))


def refused_norm(t):
    x, weight = tensors(t, (1, 1, 32, 64), (1, 1, 1, 96))
    t.rms_norm(x, epsilon=1e-6, weight=weight, memory_config=t.DRAM_MEMORY_CONFIG, compute_kernel_config=kernel(t))


def rotate_hf(t, width, memory):
    x, cos, sin = tensors(t, (1, 2, 4, width), (1, 2, 1, width), (1, 2, 1, width))
    x = t.to_memory_config(x, memory) if memory else x
    cos, sin = tensors(t, (1, 2, 1, width), (1, 2, 1, width), memory=in_shards(t, 2, width))
    t.experimental.rotary_embedding_hf(x, cos, sin, is_decode_mode=True, memory_config=in_shards(t, 2, width), compute_kernel_config=kernel(t))


def refused_rotation_of_96(t):
    rotate_hf(t, 96, in_shards(t, 2, 96))


def refused_rotation_that_is_not_sharded(t):
    rotate_hf(t, 64, None)


def page_table(t, pages):
    return tensors(t, (1, pages), dtype="int32", layout="ROW_MAJOR_LAYOUT")[0]


def refused_fill_of_another_type(t):
    (cache,), (x,) = tensors(t, (8, 2, 64, 64), dtype="bfloat8_b"), tensors(t, (1, 2, 64, 64))
    t.experimental.paged_fill_cache(cache, x, page_table(t, 8), batch_idx=0)


def refused_update_that_is_not_sharded(t):
    cache, x = tensors(t, (8, 2, 64, 64), (1, 1, 2, 64))
    positions, = tensors(t, (1,), dtype="int32", layout="ROW_MAJOR_LAYOUT")
    t.experimental.paged_update_cache(cache, x, update_idxs_tensor=positions, page_table=page_table(t, 8))


def refused_table_that_is_wider_than_the_cache(t):
    cache, x = tensors(t, (8, 2, 64, 64), (1, 1, 2, 64))
    positions, = tensors(t, (1,), dtype="int32", layout="ROW_MAJOR_LAYOUT")
    t.experimental.paged_update_cache(cache, t.to_memory_config(x, in_shards(t, 1, 64)), update_idxs_tensor=positions, page_table=page_table(t, 16))


def refused_heads_of_a_decode_without_keys(t):
    qkv, = tensors(t, (1, 1, 4, 256))
    t.experimental.nlp_create_qkv_heads_decode(qkv, num_heads=4, num_kv_heads=0, memory_config=t.L1_HEIGHT_SHARDED_MEMORY_CONFIG)


def refused_addition(t):
    t.add(*tensors(t, (1, 1, 32, 64), (1, 1, 32, 96)), memory_config=t.DRAM_MEMORY_CONFIG)


REFUSED = {name: call for name, call in globals().items() if name.startswith("refused_")}


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse_the_same_calls(tandem, name):
    with pytest.raises(RuntimeError):
        REFUSED[name](tandem)


def test_a_call_that_one_alone_takes_is_found(tandem, monkeypatch):
    monkeypatch.setattr(place, "add", lambda a, b, memory_config: place.Tensor(a.values))
    with pytest.raises(Disagreement, match="add: the place-holder takes it; TTNN"):
        refused_addition(tandem)


# The arithmetic, beside loops in float64; the results are bfloat16, so that half a unit in the last place is rounding and one the limit. What
# TTNN's kernels round on the way is held against the cpu's card mode (test_numerics.py), whose own oracles are tests/devices/cpu/card_test.cpp's.
RANDOM = np.random.default_rng(5)


def values(*shape):
    return place.rounded(RANDOM.standard_normal(shape), "bfloat16")


def ulps(computed, exact):
    """How far, in units of bfloat16's last place at the exact value; sums that cancel are judged at the size of the largest value."""
    exact = np.asarray(exact, np.float64)
    size = np.maximum(np.abs(exact), np.abs(exact).max() / 256)
    return float((np.abs(computed.values - exact) / 2.0 ** (np.floor(np.log2(size)) - 7)).max())


def exact_attention(q, keys, values, position, scale, window):
    out = np.zeros(q.shape)
    for head in range(len(q)):
        group = head * len(keys) // len(q)
        known = range(max(0, position - (window or position + 1) + 1), position + 1)
        scores = [sum(float(a) * float(b) for a, b in zip(q[head], keys[group, k])) * float(np.float32(scale)) for k in known]
        weights = np.exp(np.array(scores) - max(scores))
        out[head] = sum(w * values[group, k].astype(np.float64) for w, k in zip(weights / weights.sum(), known))
    return out


def paged(x, numbers):
    """[heads, positions, width] in pages with these numbers."""
    cache = np.zeros((max(numbers) + 2, len(x), place.PAGE, x.shape[2]), np.float32)
    for at, page in enumerate(numbers):
        cache[page] = x[:, at * place.PAGE:(at + 1) * place.PAGE]
    return place.Tensor(cache)


def integers(*shape, of):
    return place.Tensor(np.array(of, np.int32).reshape(shape), "int32", "ROW_MAJOR")


def without_lowest_bit(x):
    """Of a bfloat16's eight digits."""
    significand, exponent = math.frexp(x)
    return math.ldexp(math.trunc(significand * 128), exponent - 7)


@pytest.mark.parametrize("fidelity, seen", [("HiFi4", float), ("HiFi2", without_lowest_bit)])
def test_a_linear_is_one_rounding_of_the_exact_sum_of_what_its_fidelity_sees(fidelity, seen):
    x, w = values(1, 1, 5, 96), values(1, 1, 96, 40)
    exact = [[sum(seen(float(x[0, 0, t, i])) * float(w[0, 0, i, o]) for i in range(96)) for o in range(40)] for t in range(5)]
    config = place.WormholeComputeKernelConfig(math_fidelity=fidelity)
    assert ulps(place.linear(place.Tensor(x), place.Tensor(w), "DRAM", "bfloat16", config), exact) <= 1


def test_a_norm_is_one_rounding_of_the_exact_one():
    x, w = values(1, 1, 3, 64), place.rounded(1 + 0.1 * RANDOM.standard_normal((1, 1, 1, 64)), "float32")
    wide = x.astype(np.float64)
    exact = wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + 1e-6) * w
    assert ulps(place.rms_norm(place.Tensor(x), 1e-6, place.Tensor(w, "float32"), "DRAM", None), exact) <= 1


@pytest.mark.parametrize("name", ["GELU_TANH", "SILU", "RELU"])
def test_an_activation_times_the_other_half_is_two_roundings(name):
    a, b = values(1, 1, 4, 64), values(1, 1, 4, 64)
    wide = a.astype(np.float64)
    exact = {"RELU": np.maximum(wide, 0), "SILU": wide / (1 + np.exp(-wide)), "GELU_TANH": 0.5 * wide * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))}[name] * b
    assert ulps(place.mul(place.Tensor(a), place.Tensor(b), [name], "DRAM"), exact) <= 1.5


@pytest.mark.parametrize("neighbours", [False, True])
def test_a_rotation_rounds_its_products_and_their_sum(neighbours):
    x, angle = values(1, 2, 4, 64), RANDOM.uniform(0, 6, (4, 32))
    cos, sin = place.rounded(np.cos(angle), "bfloat16"), place.rounded(np.sin(angle), "bfloat16")
    straight, crossed = np.zeros(x.shape), np.zeros(x.shape)
    for i in range(32):
        a, b = (2 * i, 2 * i + 1) if neighbours else (i, i + 32)
        straight[..., a], crossed[..., a] = x[..., a] * cos[:, i].astype(np.float64), -x[..., b] * sin[:, i].astype(np.float64)
        straight[..., b], crossed[..., b] = x[..., b] * cos[:, i].astype(np.float64), x[..., a] * sin[:, i].astype(np.float64)
    tables = [place.Tensor((np.repeat(t, 2, axis=1) if neighbours else np.tile(t, 2))[None, None]) for t in (cos, sin)]
    matrix = np.zeros((1, 1, 32, 32), np.float32)
    for i in range(0, 32, 2):
        matrix[0, 0, i, i + 1], matrix[0, 0, i + 1, i] = 1, -1
    rotate = place.rotary_embedding_llama if neighbours else place.rotary_embedding_hf
    turned = rotate(place.Tensor(x), *tables, *([place.Tensor(matrix)] if neighbours else []), False, "DRAM", None).values
    error, sizes = np.abs(turned - straight - crossed), np.abs(straight) + np.abs(crossed)
    assert (error <= (sizes + np.abs(turned)) * 2**-8 + sizes * 2**-10).all()


def test_a_cast_to_blocks_takes_the_middle_away_from_zero():
    x = np.array([64, 2.5, -2.5, 3.5, 2.25, 2.75, 0.5, -0.25, 0, 1, 1.5, -1.5, 63.5, 31.25, 4.5, -4.5], np.float32)
    held = [math.copysign(math.floor(abs(v) + 0.5), v) for v in x.astype(np.float64)]
    assert place.typecast(place.Tensor(x[None, None, None]), "bfloat8_b", "DRAM").values.ravel().tolist() == held


def test_an_update_of_blocks_rounds_to_seven_digits_first():
    x = np.array([112, 21.375, -55.25, 15.4375, 40, 21.25, 55.125, 100.5] * 4, np.float32)  # two blocks
    cache = place.Tensor(np.zeros((1, 1, 64, 32), np.float32), "bfloat8_b")
    user = place.Tensor(x[None, None, None], memory=("HEIGHT_SHARDED", 1, (32, 32)))
    place.paged_update_cache(cache, user, integers(1, of=[5]), integers(1, 1, of=[0]))
    assert cache.values[0, 0, 5].tolist() == [112, 22, -56, 16, 40, 21, 55, 101] * 4


def test_the_approximate_exp_is_within_three_percent():
    x = np.linspace(-20, 0, 10001)
    error = place.approximate_exp(x.astype(np.float32)) / np.exp(x) - 1
    assert 0.02 < np.abs(error).max() < 0.035
    assert abs(error.mean()) < 0.012


def off(computed, exact):
    return float(np.linalg.norm(computed.astype(np.float64) - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("window", [None, 70])
def test_attention_over_pages_is_off_by_what_its_kernels_round(window):
    keys, vals, scale = values(2, 256, 32), values(2, 256, 32), 32**-0.5
    numbers = [3, 0, 5, 1]
    caches, table = (paged(keys, numbers), paged(vals, numbers)), integers(1, 8, of=[*numbers, 6, 6, 6, 6])
    caches = [place.Tensor(np.pad(c.values, [(0, 8 - len(c.values)), (0, 0), (0, 0), (0, 0)])) for c in caches]
    config = place.SDPAProgramConfig(q_chunk_size=128, k_chunk_size=128)
    q = values(1, 4, 128, 32)
    chunk = place.chunked_scaled_dot_product_attention(place.Tensor(q), *caches, table, integers(1, of=[128]), scale, window, config, None, "DRAM")
    few, many = values(1, 1, 16, 32), values(1, 1, 18, 32)
    decoded = [place.paged_scaled_dot_product_attention_decode(place.Tensor(user), *caches, table, integers(1, of=[200]), scale, window, config, None, "DRAM")
               for user in (few, many)]
    rows = [0, 1, 63, 64, 127]
    exact = np.stack([exact_attention(q[0, :, row], keys, vals, 128 + row, scale, window) for row in rows], axis=1)
    assert off(chunk.values[0][:, rows], exact) < 0.004
    approximate, accurate = (off(out.values[0, 0], exact_attention(user[0, 0], keys, vals, 200, scale, window)) for out, user in zip(decoded, (few, many)))
    assert 0.01 < approximate < 0.03
    assert accurate < 0.007

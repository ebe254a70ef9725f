"""The device's calls, computed by the NumPy place-holder of TTNN, beside the cpu device in card mode: equal up to the order of sums."""
import json

import numpy as np
import pytest
from block_float_model import MAGNITUDE_BITS
from conversations import Talk, whole_conversation
from distance import off, spread
from tiny_models import model, rounded_as_on_the_card

GEMMA3, PHI3 = "small-gemma3-window-16", "small-phi3"
MODELS = [GEMMA3, "small-gemma3-softcap", "small-gemma3-head-dim-32", PHI3, "small-phi3-longrope-128", "small-phi3-tied", "small-llama",
          "small-llama-biases", "small-llama-biases-head-dim-96", "small-mistral", "small-qwen2", "small-qwen3", "small-phi3-partial-rotary",
          "small-phi3-partial-rotary-head-dim-96", "small-ministral3", "small-smollm3", "small-arcee", "small-granite", "small-olmo2",
          "small-olmo3"]


def has_blocks_of_its_own(model, weights):
    """On the cpu a block holds outputs of gate and up where the width of each is no multiple of 16. A twin with the card's values sees all their bits."""
    return weights in MAGNITUDE_BITS and json.loads(model[1])["intermediate_size"] % 16 != 0


def errors(core, model, weights, cache):
    """How far the card's and its twin's logits in bfloat16 are from the cpu's in float32 with the same rounded weights, as shares of their size."""
    cpu = core.open_device("cpu")
    held = rounded_as_on_the_card(model, weights)
    exact = whole_conversation(Talk(core, cpu, held, weights="bfloat16", activations="float32", cache="float32"))
    twin_model, twin_weights = (held, "bfloat16") if has_blocks_of_its_own(model, weights) else (model, weights)
    twin = whole_conversation(Talk(core, core.open_device("cpu", twin="card"), twin_model, weights=twin_weights, activations="bfloat16", cache=cache))
    card = whole_conversation(Talk(core, core.open_device("n150", module="numpy_ttnn"), model, weights=weights, activations="bfloat16", cache=cache))
    return off(card, exact), off(twin, exact), spread(card - twin) / spread(exact)


@pytest.mark.parametrize("weights, cache", [("bfloat8_b", "bfloat16"), ("bfloat16", "bfloat8_b"), ("bfloat4_b", "bfloat16")])
@pytest.mark.parametrize("name", MODELS)
def test_is_as_far_from_float32_as_the_cpu_s_card_mode_and_near_to_it(core, measured, name, weights, cache):
    card, twin, apart = errors(core, model(name), weights, cache)
    measured(f"{name}, {weights} weights, {cache} cache: off float32 by {card:.3%}, the cpu's card mode by {twin:.3%}; apart {apart:.3%}")
    if has_blocks_of_its_own(model(name), weights):
        assert card < 1.7 * twin
        assert apart < 1.7 * twin
    else:
        assert 0.87 * twin < card < 1.15 * twin
        assert apart < 0.8 * twin

@pytest.mark.parametrize("weights, of_chunks", [("bfloat8_b", "HiFi2"), ("bfloat4_b", "HiFi2"), ("bfloat16", "HiFi4")])
def test_few_rows_are_multiplied_in_four_passes_and_chunks_of_block_formats_in_two(core, monkeypatch, weights, of_chunks):
    import numpy_ttnn

    seen, linear = set(), numpy_ttnn.linear

    def watched(x, *arguments, compute_kernel_config, **options):
        seen.add((x.shape[2], compute_kernel_config.math_fidelity))
        return linear(x, *arguments, compute_kernel_config=compute_kernel_config, **options)

    monkeypatch.setattr(numpy_ttnn, "linear", watched)
    talk = Talk(core, core.open_device("n150", module="numpy_ttnn"), model(GEMMA3), weights=weights)
    first, second, third = (talk.cache.create() for _ in range(3))
    talk.say((first, 100, 2))
    assert seen == {(128, of_chunks), (2, "HiFi4")}
    talk.say((first, 1, 1), (second, 1, 1), (third, 1, 1))
    assert seen == {(128, of_chunks), (2, "HiFi4"), (4, "HiFi4")}


def off_by_one(original):
    return lambda q, keys, values, first, scale, window, softmax: original(q, keys, values, first, scale, window and window + 1, softmax)


def swapped(original):
    return lambda a, b, **options: original(b, a, **options)


def turned_the_other_way_in_chunks(original):
    def rotate(x, cos, sin, matrix, is_decode_mode, **more):
        sign = 1 if is_decode_mode else -1
        return original(x, cos, sin, type(matrix)(sign * matrix.values), is_decode_mode, **more)

    return rotate


def halves_in_place_of_pairs(original):
    def rotate(x, cos, sin, matrix, is_decode_mode, memory_config, **more):
        import numpy_ttnn

        low, high = np.split(x.values, 2, axis=-1)
        return numpy_ttnn.rotate(x, cos, sin, np.concatenate([-high, low], axis=-1), is_decode_mode, memory_config)

    return rotate


def one_position_early(original):
    def update(cache, x, update_idxs_tensor, page_table):
        update_idxs_tensor.values[0] -= update_idxs_tensor.values[0] > 0
        original(cache, x, update_idxs_tensor, page_table)

    return update


def without_biases(original):
    return lambda a, b, **options: type(a)(a.values, options["dtype"]) if a.shape != b.shape else original(a, b, **options)


def where_no_layer_has_one(original):
    return lambda q, keys, values, first, scale, window, softmax: original(q, keys, values, first, scale, None if window else 16, softmax)


class Late:
    """A norm of a chunk's heads that waits for their rotation. Those of decodes are as they should be."""

    @staticmethod
    def norm(original):
        def norm(x, epsilon, weight, **options):
            if weight.shape[-1] != x.shape[-1] or x.shape[1] == 1 or x.shape[2] % 128:
                return original(x, epsilon, weight, **options)
            waiting = type(x)(x.values)
            waiting.norm = lambda turned: original(turned, epsilon, weight, **options)
            return waiting

        return norm

    @staticmethod
    def rotation(original):
        def rotate(x, *arguments, **options):
            turned = original(x, *arguments, **options)
            return x.norm(turned) if hasattr(x, "norm") else turned

        return rotate


def of_each_head(original):
    def norm(x, epsilon, weight, **options):
        if weight.shape[-1] != 4 * 64 and weight.shape[-1] != 2 * 64:
            return original(x, epsilon, weight, **options)
        heads = weight.shape[-1] // 64
        return type(x)(np.concatenate([original(type(x)(part), epsilon, type(x)(of_part), **options).values for part, of_part in zip(
            np.split(x.values, heads, axis=-1), np.split(weight.values, heads, axis=-1))], axis=-1))

    return norm


FAULTS = {"a window of one key more": ({"attend": off_by_one}, GEMMA3),
          "a window on the layers that have none": ({"attend": where_no_layer_has_one}, "small-qwen2"),
          "gate and up swapped": ({"mul": swapped}, PHI3),
          "a sine of the other sign in a chunk and not in a decode": ({"rotary_embedding_llama": turned_the_other_way_in_chunks}, PHI3),
          "rows of q and k that are not permuted": ({"rotary_embedding_llama": halves_in_place_of_pairs}, PHI3),
          "biases that are not added": ({"add": without_biases}, "small-llama-biases-head-dim-96"),
          "a norm behind the rotation": ({"rms_norm": Late.norm, "rotary_embedding_hf": Late.rotation}, "small-qwen3"),
          "a norm of each head in place of all": ({"rms_norm": of_each_head}, "small-olmo3"),
          "keys written one position early": ({"paged_update_cache": one_position_early}, GEMMA3)}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_shows(core, monkeypatch, fault):
    import numpy_ttnn

    plants, spoiled = FAULTS[fault]
    for name, plant in plants.items():
        place = numpy_ttnn.experimental if hasattr(numpy_ttnn.experimental, name) else numpy_ttnn
        monkeypatch.setattr(place, name, plant(getattr(place, name)))
    card, twin, _ = errors(core, model(spoiled), "bfloat16", "bfloat16")
    assert card > 2 * twin


def test_a_factor_keeps_its_float32_digits(core, monkeypatch):
    import numpy_ttnn

    seen, multiply = set(), numpy_ttnn.multiply

    def watched(a, b, **options):
        factor = b.values if isinstance(b, numpy_ttnn.Tensor) else numpy_ttnn.rounded(b, a.dtype)
        seen.add((a.dtype, factor.item()))
        return multiply(a, b, **options)

    monkeypatch.setattr(numpy_ttnn, "multiply", watched)
    talk = Talk(core, core.open_device("n150", module="numpy_ttnn"), model("small-granite"), weights="bfloat16")
    first, second = talk.cache.create(), talk.cache.create()
    talk.say((first, 20, 2))
    talk.say((first, 1, 1), (second, 1, 1))
    embedding, residual, logits = (float(np.float32(factor)) for factor in (3.3, 0.43, 1 / 0.7))
    assert seen == {("bfloat16", embedding), ("bfloat16", residual), ("float32", logits)}

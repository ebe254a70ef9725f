"""The real Gemma 3 270M, all of a prompt's logits: alone, in chunks, and beside two other sequences: the same bits."""
import numpy as np
import pytest
from parity import random_ids
from tessera_package import need_package

tessera = need_package()

CHUNKS = (1, 31, 512)
PROMPT, ROWS = 600, 64  # past the window of 512


@pytest.mark.parametrize("weights, activations", [("bfloat16", "bfloat16"), ("bfloat8_b", "bfloat16"), ("float32", "float32")])
def test_chunks_and_neighbours_change_no_bit(gemma3_270m, weights, activations, measured):
    device = tessera.open_device("cpu")
    loaded = tessera.load_model(str(gemma3_270m), device, weights=weights, activations=activations)
    cache = tessera.Cache(device, loaded.model.spec.cache, dtype=loaded.options.cache, max_tokens=4096, max_sequences=4,
                          prefix_cache=False)  # what is compared is computed

    def started(ids):
        sequence = cache.create()
        sequence.append(ids)
        return sequence

    ids, longer, shorter = random_ids(PROMPT, 20000), random_ids(PROMPT + 50, 20000), random_ids(7, 20000)
    whole = tessera.Generator(loaded.model, device, cache).forward([(started(ids), ROWS)])
    assert whole.shape[0] == ROWS and np.isfinite(whole).all()
    for chunk in CHUNKS:
        generator = tessera.Generator(loaded.model, device, cache, chunk)
        assert np.array_equal(generator.forward([(started(ids), ROWS)]), whole), chunk
    beside = tessera.Generator(loaded.model, device, cache).forward([(started(longer), 0), (started(ids), ROWS), (started(shorter), 0)])
    assert np.array_equal(beside, whole)
    measured(f"gemma3 270M, weights {weights}, activations {activations}: {ROWS} rows of a prompt of {PROMPT} tokens, whole, in chunks of {CHUNKS}, beside two: equal bits")

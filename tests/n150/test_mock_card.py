"""The lane itself: what a mock card shows, and that TTNN's own checks and its allocator are at work on it."""
import numpy as np
import pytest


def on_card(ttnn, card, shape, dtype):
    return ttnn.Tensor(np.zeros(shape, np.float32), dtype, card, ttnn.TILE_LAYOUT)


def test_is_an_n150_with_64_cores_and_12_banks_of_memory(ttnn, card):
    grid = card.compute_with_storage_grid_size()
    memory = ttnn.get_memory_view(card, ttnn.BufferType.DRAM)
    assert (grid.x, grid.y) == (8, 8)
    assert memory.num_banks == 12
    assert 12.8e9 < memory.num_banks * memory.total_bytes_per_bank < 12.9e9


def test_runs_an_op_of_each_kind_of_program(ttnn, card):
    x = on_card(ttnn, card, (1, 1, 32, 256), ttnn.bfloat16)
    y = ttnn.linear(x, on_card(ttnn, card, (1, 1, 256, 512), ttnn.bfloat8_b))
    assert tuple(y.shape) == (1, 1, 32, 512)
    assert tuple(ttnn.add(x, x).shape) == tuple(ttnn.rms_norm(x, epsilon=1e-6).shape) == (1, 1, 32, 256)


def test_keeps_a_program_for_the_next_call_of_the_same_shape(ttnn, card):
    x = on_card(ttnn, card, (1, 1, 64, 96), ttnn.bfloat16)
    ttnn.mul(x, x)
    programs = card.num_program_cache_entries()
    ttnn.mul(x, x)
    assert card.num_program_cache_entries() == programs


def test_refuses_shapes_that_do_not_fit(ttnn, card):
    x = on_card(ttnn, card, (1, 1, 32, 256), ttnn.bfloat16)
    with pytest.raises(RuntimeError, match="width=256 height=32"):
        ttnn.linear(x, x)


def test_refuses_what_does_not_fit_its_memory(ttnn, card):
    with pytest.raises(RuntimeError, match="Out of Memory"):
        ttnn.empty((1, 1, 1 << 17, 1 << 17), ttnn.bfloat16, ttnn.TILE_LAYOUT, card, ttnn.DRAM_MEMORY_CONFIG)


def test_leaves_the_installed_ttnn_as_it_was(ttnn, card):
    from pathlib import Path

    assert not (Path(ttnn.__file__).parent / "runtime/sfpi").exists()

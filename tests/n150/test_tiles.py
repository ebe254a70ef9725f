"""The bytes that our packer makes for the card, and those of TTNN's own host packer."""
import numpy as np
import pytest
from block_float_model import inputs

FORMATS = ("bfloat16", "bfloat8_b", "bfloat4_b")
SHAPES = [(32, 32), (64, 96), (40, 70), (1, 33), (33, 1), (640, 2080)]  # [in, out]


def ttnn_tensor(ttnn, values, format_name):
    return ttnn.Tensor(np.ascontiguousarray(values), data_type=getattr(ttnn, format_name), layout=ttnn.TILE_LAYOUT)


def ttnn_bytes(ttnn, values, format_name):
    shard = ttnn_tensor(ttnn, values, format_name).host_buffer().get_shard(ttnn.MeshCoordinate(0, 0))
    return np.from_dlpack(shard).view(np.uint8).ravel()


def packed(core, values, format_name, **options):
    return np.frombuffer(core.pack_tiles(np.ascontiguousarray(values.T), format_name, **options), np.uint8)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("name, values", [pytest.param(*case, id=case[0]) for case in inputs()])
def test_makes_the_bytes_that_ttnn_makes(ttnn, core, format_name, name, values):
    values = values.reshape(-1, 32)
    np.testing.assert_array_equal(packed(core, values, format_name), ttnn_bytes(ttnn, values, format_name))


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_makes_the_bytes_that_ttnn_makes_of_any_shape(ttnn, core, format_name, shape):
    values = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    expected = ttnn_bytes(ttnn, values, format_name)
    for threads in (1, 3):
        np.testing.assert_array_equal(packed(core, values, format_name, threads=threads), expected)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_table_has_the_values_of_the_tiles(ttnn, core, format_name):
    values = np.random.default_rng(4).standard_normal((72, 200)).astype(np.float32)  # [in, out]
    table = np.frombuffer(core.pack_table(np.ascontiguousarray(values.T), format_name), np.uint16).reshape(200, 72)
    rounded = ttnn.to_dtype(ttnn_tensor(ttnn, values, format_name), ttnn.float32).to_numpy()
    np.testing.assert_array_equal(table.astype(np.uint32) << 16, rounded.T.copy().view(np.uint32))


def test_refuses_a_type_that_the_card_has_no_tiles_of(core):
    with pytest.raises(ValueError, match="no weights of float32; choose bfloat16, bfloat8_b or bfloat4_b"):
        core.pack_tiles(np.zeros((32, 32), np.float32), "float32")

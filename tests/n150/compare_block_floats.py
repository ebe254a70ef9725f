"""Holds the block formats' bytes against TTNN's own host packer: compare_block_floats.py BUILD_DIR, in a Python that has ttnn and numpy.

Needs no card: TTNN packs on the host. It wants to see a device all the same, so it is shown a mock n150.
"""
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
MOCK_N150 = """\
arch: {0: wormhole_b0}
chips: {0: [0, 0, 0, 0]}
chip_unique_ids: {0: 72059269368820857}
ethernet_connections: []
chips_with_mmio: [{0: 0}]
harvesting: {0: {noc_translation: true, harvest_mask: 64, dram_harvesting_mask: 0, eth_harvesting_mask: 0, pcie_harvesting_mask: 0}}
chip_to_boardtype: {0: n150}
boards:
  - [{board_id: 72059269368820857}, {board_type: n150}, {chips: [0]}]
"""


def tile_bytes(exponents, codes, bits):
    """Blocks in row-major order of [rows, 32] as TTNN's tiles: 32 x 32, as four faces of 16 x 16, exponents before codes."""
    tiles = len(exponents) // 64
    exponents = exponents.reshape(tiles, 2, 16, 2).transpose(0, 1, 3, 2).reshape(tiles, 64)
    codes = codes.reshape(tiles, 2, 16, 2, 16).transpose(0, 1, 3, 2, 4).reshape(tiles, 1024)
    if bits == 3:
        codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return np.concatenate([exponents, codes], axis=1).reshape(-1)


def ttnn_bytes(values, dtype):
    rows = np.ascontiguousarray(values.reshape(-1, 32))
    tensor = ttnn.Tensor(rows, data_type=dtype, layout=ttnn.TILE_LAYOUT)
    return np.from_dlpack(tensor.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0))).copy()


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / "n150.yaml").write_text(MOCK_N150)
    os.environ.setdefault("TT_METAL_MOCK_CLUSTER_DESC_PATH", str(folder / "n150.yaml"))
    os.environ.setdefault("TT_LOGGER_LEVEL", "off")
    import numpy as np
    import ttnn
    from block_float_model import MAGNITUDE_BITS, inputs, run_program

    different = 0
    for name, values in inputs():
        for format_name, bits in MAGNITUDE_BITS.items():
            exponents, codes, _ = run_program(Path(sys.argv[1]) / "tests/core/block_float_file", format_name, values, folder)
            same = tile_bytes(exponents, codes, bits) == ttnn_bytes(values, getattr(ttnn, format_name))
            different += int(not same.all())
            print(f"{format_name} {name}: {same.sum()} of {same.size} bytes equal")
sys.exit(1 if different else 0)

"""What card is there: `python card.py found|opened` prints a line of JSON. `found` opens nothing."""
import importlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path


def text(path):
    return path.read_text().strip() if path.is_file() else None


def found():
    """TTNN tells no versions of the driver and of the firmware; the driver does, under /sys."""
    cards = sorted(Path("/sys/class/tenstorrent").glob("tenstorrent!*"))
    told = {name: text(cards[0] / f"tt_{name}") for name in ("card_type", "fw_bundle_ver", "arc_fw_ver", "eth_fw_ver")} if cards else {}
    return {"ttnn": importlib.metadata.version("ttnn"), "cards": len(cards), "driver": text(Path("/sys/module/tenstorrent/version")), **told}


def opened():
    """Opened, closed and opened again."""
    ttnn = importlib.import_module(os.environ.get("TESSERA_TTNN_MODULE", "ttnn"))
    for _ in range(2):
        card = ttnn.open_device(device_id=0)
        grid, memory = card.compute_with_storage_grid_size(), ttnn.get_memory_view(card, ttnn.BufferType.DRAM)
        told = {"kind": ttnn.cluster.get_cluster_type().name, "arch": card.arch().name, "grid": [grid.x, grid.y], "banks": memory.num_banks,
                "free_bytes": memory.num_banks * memory.total_bytes_free_per_bank}
        ttnn.close_device(card)
    return told


if __name__ == "__main__":
    print(json.dumps({"found": found, "opened": opened}[sys.argv[1]]()), flush=True)

"""Writes a Hugging Face checkpoint directory with numpy alone, so that it is either complete and of this recipe, or not there."""
import fcntl
import hashlib
import json
import os
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

from pinned_wheels import sha256_of

MANIFEST = "tessera_manifest.json"
SLICE_ELEMENTS = 1 << 24  # a big tensor is dequantised and rounded in slices of this many values


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TESSERA_CACHE") or Path(base) / "tessera")


def to_bfloat16(x):
    """float32 -> the uint16 bits of bfloat16, rounded to nearest even. Finite values only."""
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def row_slices(shape):
    """Ranges of rows (the first dimension) that keep a slice's float32 copy small."""
    step = max(1, SLICE_ELEMENTS // max(1, int(np.prod(shape[1:]))))
    return [(at, min(at + step, shape[0])) for at in range(0, shape[0], step)]


def write_safetensors(path, tensors):
    """tensors: name -> (shape, rows), where rows(begin, end) gives those rows as float32. Stored as bfloat16."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, _) in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for shape, rows in tensors.values():
            for begin, end in row_slices(shape):
                to_bfloat16(rows(begin, end)).tofile(f)


def write_json(path, document):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(document, f, ensure_ascii=False)


def recipe_of(options, *sources):
    """Names what a directory was made by: the options and the very text of the scripts."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for source in (__file__, *sources):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()


def is_complete(target, recipe):
    try:
        manifest = json.loads((target / MANIFEST).read_text())
        sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
        return manifest["recipe"] == recipe and all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def publish(target, recipe, about, make):
    """Runs make(folder) in a temporary neighbour of `target` and renames it there, unless `target` is complete and of this recipe.

    One process makes at a time; the others wait and find its result. What a killed process left behind is removed.
    """
    target = Path(target).absolute()
    if is_complete(target, recipe):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(target, recipe):
            return target
        if target.exists() and not (target / MANIFEST).exists() and any(target.iterdir()):
            raise RuntimeError(f"{target} was not made by this script: name another directory, or remove it")
        partial, old = (target.parent / f".{target.name}.{kind}" for kind in ("partial", "old"))
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        try:
            print(f"making {target}", file=sys.stderr, flush=True)
            make(partial)
            files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in sorted(partial.iterdir())}
            write_json(partial / MANIFEST, {"about": about, "recipe": recipe, "files": files})
            if target.exists():
                target.rename(old)
            partial.rename(target)
        finally:
            for leftover in (partial, old):
                shutil.rmtree(leftover, ignore_errors=True)
    return target

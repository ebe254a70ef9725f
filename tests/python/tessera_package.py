"""The Python package under test: that of the build tree when it was built for this Python, else the installed one."""
import importlib.machinery
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / os.environ.get("TESSERA_BUILD", "build/release") / "python"


def need_package():
    if any((BUILT / f"tessera/_core{suffix}").exists() for suffix in importlib.machinery.EXTENSION_SUFFIXES):
        sys.path.insert(0, str(BUILT))
        os.environ["PYTHONPATH"] = str(BUILT)  # for Pythons that tests start
    try:
        import tessera
    except ModuleNotFoundError as error:
        if os.environ.get("TESSERA_REQUIRE_ALL") == "1":
            raise
        pytest.skip(f"the Python package is not built: {error}", allow_module_level=True)
    return tessera

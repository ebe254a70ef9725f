"""The n150's device against TTNN itself on a mock card, in a Python that has ttnn: `make n150`."""
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "python"))  # what the tests share
os.environ.setdefault("TESSERA_BUILD", "build/n150")
os.environ["OMP_NUM_THREADS"] = "1"  # of NumPy: no worker of pytest's slows the other down

from nothing_skips import (  # noqa: E402, F401
    measured, pytest_configure, pytest_runtest_makereport, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown)


@pytest.fixture(scope="session")
def ttnn(tmp_path_factory):
    """TTNN, which sees a mock n150."""
    import mock_card

    try:
        mock_card.prepare(tmp_path_factory.mktemp("mock_card"))
        import ttnn
    except (ImportError, FileNotFoundError) as error:
        pytest.skip(f"TTNN or the assembler is missing: run scripts/setup n150 ({error})")
    return ttnn


@pytest.fixture(scope="session")
def card(ttnn):
    """The open mock n150, as a ttnn device."""
    device = ttnn.open_device(device_id=0)
    yield device
    ttnn.close_device(device)


@pytest.fixture(scope="session")
def tessera():
    from tessera_package import need_package

    return need_package()


@pytest.fixture(scope="session")
def core(tessera):
    """The extension itself."""
    return tessera._core

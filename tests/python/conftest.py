import os
import subprocess
import sys
from pathlib import Path

import pytest
from nothing_skips import (  # noqa: F401
    measured, pytest_configure, pytest_runtest_makereport, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown)

ROOT = Path(__file__).resolve().parents[2]
os.environ["OMP_NUM_THREADS"] = "1"  # of torch and NumPy: one and the same order of sums, and no worker of pytest's slows the other down
os.environ["TESSERA_PACKED_CACHE"] = "0"  # nothing of an earlier build's is tested; test_packed_cache.py sets it otherwise


def pytest_collection_modifyitems(items):
    """The longest files are begun first, so that no worker waits for the other in the end."""
    items.sort(key=lambda item: "parity" not in item.path.name)


@pytest.fixture(scope="session")
def build():
    """The build tree under test: build/release, or TESSERA_BUILD."""
    return ROOT / os.environ.get("TESSERA_BUILD", "build/release")


@pytest.fixture(scope="session")
def tessera(build, tmp_path_factory):
    from tessera_program import Tessera

    path = build / "apps/cli/tessera"
    if not path.exists():
        pytest.skip(f"{path} is not built: run `make build`")
    return Tessera(path, tmp_path_factory.mktemp("tessera"))


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Tiny whole checkpoints with tokenizers, which tests copy and spoil: "gemma", "sharded" and "phi"."""
    from hostile_files import make_checkpoints

    return make_checkpoints(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    from hf_reference import HfReference

    reference = HfReference(tmp_path_factory.mktemp("hf"))
    yield reference
    reference.close()


def made_weights(script, *options):
    """The checkpoint directory that a script of scripts/weights makes, or has made before."""
    done = subprocess.run([sys.executable, ROOT / "scripts/weights" / script, *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{script} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f'exit {done.returncode}'}")
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def gemma3_270m():
    return made_weights("make_gemma3_270m.py")


@pytest.fixture(scope="session")
def phi3_smollm2():
    return made_weights("make_smollm2.py", "phi3")


@pytest.fixture(scope="session")
def llama_smollm2():
    """The same weights as the Llama that they are."""
    return made_weights("make_smollm2.py", "llama")


@pytest.fixture(scope="session")
def rewritten_smollm2():
    """The same Llama's weights as a checkpoint of another architecture, by its model_type."""
    return lambda architecture: made_weights("make_smollm2.py", architecture)


@pytest.fixture(scope="session")
def phi3_smollm2_longrope():
    """LongRoPE's factors change after 64 positions."""
    return made_weights("make_smollm2.py", "phi3", "--longrope", "64")


@pytest.fixture(scope="session")
def long_text():
    return (ROOT / "prompts/perplexity.txt").read_text(encoding="utf-8")

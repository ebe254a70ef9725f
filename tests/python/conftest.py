import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIRE_ALL = os.environ.get("TESSERA_REQUIRE_ALL") == "1"
MEASURED = pytest.StashKey[list]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With TESSERA_REQUIRE_ALL=1 nothing may skip: a skip is a failure."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"TESSERA_REQUIRE_ALL=1, but this test was skipped: {report.longrepr[2]}"
    return report


def pytest_configure(config):
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[MEASURED]:
        terminalreporter.section("measured")
        for line in config.stash[MEASURED]:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def measured(request):
    """measured("...") prints a line at the end of the run: what was compared, and how near it came."""
    return request.config.stash[MEASURED].append


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
    return made_weights("make_phi3_smollm2.py")


@pytest.fixture(scope="session")
def phi3_smollm2_longrope():
    """LongRoPE's factors change after 64 positions."""
    return made_weights("make_phi3_smollm2.py", "--longrope", "64")


@pytest.fixture(scope="session")
def long_text():
    return (ROOT / "prompts/perplexity.txt").read_text(encoding="utf-8")

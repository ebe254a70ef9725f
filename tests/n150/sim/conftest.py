"""The simulated card's lane: every process that opens it is a child, with a limit of time, since a kernel that fails may hang the next call."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import simulated_card  # noqa: E402


class Child:
    """A script of this folder, or the command `tessera`, as a child process in the environment of a card."""

    def __init__(self, environment):
        self.environment = environment

    def run(self, script, *arguments, timeout, **environment):
        """Returns (the lines of JSON that it printed, what was wrong or None)."""
        command = [sys.executable, *(["-m", "tessera"] if script == "tessera" else [HERE / script]), *map(str, arguments)]
        try:
            done = subprocess.run(command, env={**self.environment, **environment}, capture_output=True, text=True, timeout=timeout)
            out, wrong = done.stdout, None if done.returncode == 0 else f"exit code {done.returncode}: {tail(done.stderr) or tail(done.stdout)}"
        except subprocess.TimeoutExpired as error:
            out, wrong = (error.stdout or b"").decode(), f"no end within {timeout} s"
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")], wrong


def tail(text, lines=12):
    """The last lines, without a backtrace of TTNN's."""
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith(" --- ")]
    return "\n".join(kept[-lines:])


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Children that open the simulated card."""
    try:
        return Child(simulated_card.environment(simulated_card.find_simulator(), tmp_path_factory.mktemp("simulated_card")))
    except simulated_card.Missing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Children that open a mock card, whose kernels are compiled and not run."""
    try:
        return Child(simulated_card.environment(None, tmp_path_factory.mktemp("compiled_card")))
    except simulated_card.Missing as error:
        pytest.skip(str(error))

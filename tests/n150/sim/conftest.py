"""The simulated card's lane."""
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import simulated_card  # noqa: E402
from child import Child  # noqa: E402


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

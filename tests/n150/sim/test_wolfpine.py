"""TTNN's kernels on wolfpine, a second simulator, which anybody can install: what it computes right, beside float64."""
import pytest
import simulated_card
from bounds import bound
from child import Child
from ops import WOLFPINE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wolfpine(tmp_path_factory):
    try:
        return Child(simulated_card.wolfpine_environment(tmp_path_factory.mktemp("wolfpine")))
    except simulated_card.Missing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", WOLFPINE)
def test_op(wolfpine, measured, name):
    (case, *_), wrong = wolfpine.run("ops.py", "wolfpine", name, timeout=300)  # one each: behind an op that computes nothing others come out wrong
    assert wrong is None
    measured(f"wolfpine, {name:24} off float64 {case['card']:8.5f}   {case['seconds']:6.2f} s")
    assert case["card"] <= bound(name)

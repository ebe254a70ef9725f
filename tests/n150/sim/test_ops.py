"""Every call of the n150's device on the simulated card, beside float64 and the place-holder."""
import pytest

from bounds import bound
from ops import GROUPS

pytestmark = pytest.mark.simulator

# How far the place-holder may be from the simulated card: it rounds where the kernels round, but adds up in another order, and of sums' last digits
# it knows nothing. What is not named is as the kernels have it, but for the last bit of few values.
APART = {
    "nlp_": 0.0, "paged_update_cache": 0.0, "typecast": 0.0, "rotary": 0.0, "add": 0.0, "multiply": 0.0,
    "linear of 128 into float32": 0.0007,
    "attention of a chunk": 0.0075, "attention of a decode": 0.0085,
    "softcap, bfloat16": 0.004,
    "linear": 0.0021, "qkv": 0.0021, "output": 0.0021, "gate": 0.0021, "down": 0.0021,
    "mul with": 0.0013, "gated": 0.0013, "rms_norm": 0.0011,
}


@pytest.fixture(scope="module")
def found(simulated):
    """What a group's child printed, once."""
    known = {}

    def of(group):
        if group not in known:
            lines, wrong = simulated.run("ops.py", group, timeout=900)
            known[group] = {line["case"]: line for line in lines}, wrong
        return known[group]

    return of


@pytest.mark.parametrize("group, name", [(group, name) for group, cases in GROUPS.items() for name in cases])
def test_op(found, measured, group, name):
    cases, wrong = found(group)
    assert name in cases, f"not reached; the child: {wrong}"
    case = cases[name]
    measured(f"{name:50} off float64 {case['card']:8.5f}   place-holder {case['place']:8.5f}   apart {case['apart']:8.5f}   {case['seconds']:6.2f} s")
    assert case["card"] <= bound(name)
    assert case["apart"] <= max(bound(name, APART), 1e-5)

"""Every call of the n150's device on the simulated card, beside float64 and the place-holder."""
import pytest

from ops import GROUPS

pytestmark = pytest.mark.simulator

# How far a case may be from float64, as a share of its values' size: at most twice what was measured. What is not named is exact.
BOUNDS = {
    "paged_update_cache, bfloat8_b": 0.0019,
    "typecast": 0.0152,
    "linear of 128 into float32": 0.0007,
    "softcap, float32": 2e-7,
    "softcap, bfloat16": 0.007,
    "HiFi2": 0.0088,
    "attention of a decode, 32 heads": 0.01,
    "Phi-3 Mini, attention of a decode": 0.01,
    "attention of a decode": 0.042,  # 16 heads or fewer: TTNN takes an approximate exp
    "attention of a chunk": 0.0075,
    "rotary": 0.0048,
    "mul with": 0.0048, "gated": 0.0048,
    "rms_norm": 0.0042,
    "linear": 0.0035, "qkv": 0.0035, "output": 0.0035, "gate": 0.0035, "down": 0.0035,
    "add": 0.0037,
    "multiply": 0.0033,
}
# How far the place-holder may be from the simulated card: it rounds where the kernels round, but adds up in another order, and of sums' last digits
# it knows nothing. What is not named is as the kernels have it, but for the last bit of few values.
APART = {
    "paged_update_cache": 0.0, "typecast": 0.0, "rotary": 0.0, "add": 0.0, "multiply": 0.0,
    "linear of 128 into float32": 0.0007,
    "attention of a chunk": 0.0075, "attention of a decode": 0.0085,
    "softcap, bfloat16": 0.004,
    "linear": 0.0021, "qkv": 0.0021, "output": 0.0021, "gate": 0.0021, "down": 0.0021,
    "mul with": 0.0013, "gated": 0.0013, "rms_norm": 0.0011,
}


def bound(name, of=BOUNDS):
    return next((value for part, value in of.items() if part in name), 0.0)


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

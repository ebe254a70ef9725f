"""Planted faults show on the simulated card and on the place-holder alike."""
import faults
import numpy as np
import pytest
from distance import off

GEMMA3, PHI3 = "small-gemma3-window-16", "small-phi3-longrope-128"
MODEL = {faults.ROWS: PHI3, "gate and up swapped": PHI3}
PLACES = [pytest.param("ttnn", marks=pytest.mark.simulator), "numpy_ttnn"]


@pytest.fixture(scope="module")
def steps(request, tmp_path_factory):
    """steps(where, model, cache, fault): (the logits of each step, what was wrong or None), computed once."""
    folder, known = tmp_path_factory.mktemp("faults"), {}

    def of(where, name, cache, fault=None):
        key = where, name, cache, fault
        if key not in known:
            child, out = request.getfixturevalue("simulated" if where == "ttnn" else "compiled"), folder / f"{len(known)}.npz"
            _, wrong = child.run("models.py", name, "bfloat16", cache, where, "short", out, *filter(None, [fault]), timeout=900)
            known[key] = (np.load(out) if wrong is None else None, wrong)
        return known[key]

    return of


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("fault", faults.NAMES)
def test_a_planted_fault_shows(steps, measured, where, fault):
    name, cache = MODEL.get(fault, GEMMA3), "bfloat8_b" if "bfloat8_b" in fault else "bfloat16"
    (exact, _), (sound, no_reason), (spoiled, reason) = steps("float32", name, cache), steps(where, name, cache), steps(where, name, cache, fault)
    assert no_reason is None
    if "typecast" in fault:
        assert "dtype" in reason
        return
    assert reason is None
    offs = {step: [off(of[step], exact[step]) for of in (sound, spoiled)] for step in exact.files}
    step = max(offs, key=lambda step: offs[step][1] / offs[step][0])
    measured(f"{fault}, {where}: {step} off float32 by {offs[step][1]:.2%}, sound {offs[step][0]:.2%}")
    assert offs[step][1] > 2 * offs[step][0]


@pytest.mark.simulator
def test_a_decode_of_several_tokens_of_one_sequence_loses_rows_on_both(simulated, measured):
    """Why Limits::decode_tokens is 1: each core reads a tile of 32 rows, and writes it back."""
    (line, *_), wrong = simulated.run("ops.py", "old", timeout=300)
    measured(f"paged_update_cache, 20 rows of one tile: the simulated card keeps {line['card']}, the place-holder {line['place']}")
    assert wrong is None and line["card"] < 20 and line["place"] < 20

"""Two-layer models on the simulated card: every kind of Batch, as near to float32 as the cpu device in its card mode, traced and not."""
import numpy as np
import pytest
from bounds import TWINS
from distance import off, spread

pytestmark = pytest.mark.simulator

GEMMA3, PHI3 = "small-gemma3-window-16", "small-phi3-longrope-128"
OTHERS = ["small-olmo3", "small-granite", "small-arcee", "small-phi3-partial-rotary"]  # each has calls that those two have not
PRECISIONS = [("bfloat8_b", "bfloat8_b"), ("bfloat16", "bfloat16")]


@pytest.fixture(scope="module")
def steps(simulated, tmp_path_factory):
    """steps(where, how, model, weights, cache): the logits of each step, computed once."""
    folder, known = tmp_path_factory.mktemp("steps"), {}

    def of(where, how, name, weights, cache):
        key = where, how, name, weights, cache
        if key not in known:
            out = folder / f"{len(known)}.npz"
            # With tracking TTNN refuses a replay that would overwrite anything that was allocated after the recording.
            lines, wrong = simulated.run("models.py", name, weights, cache, where, how, out, timeout=1200,
                                         TT_METAL_TRACE_ALLOC_TRACKING="1" if how == "trace" else "0")
            known[key] = (dict(np.load(out)) if wrong is None else None, lines, wrong)
        logits, lines, wrong = known[key]
        assert logits is not None, f"after {lines[-1:]}: {wrong}"
        return logits, lines

    return of


@pytest.mark.parametrize("name, weights, cache", [(name, *types) for name in (GEMMA3, PHI3) for types in PRECISIONS] +
                         [(name, *PRECISIONS[1]) for name in OTHERS])
def test_is_as_near_to_float32_as_its_twin(steps, measured, name, weights, cache):
    exact, _ = steps("float32", "plain", name, weights, cache)
    twin, _ = steps("twin", "plain", name, weights, cache)
    place, _ = steps("numpy_ttnn", "plain", name, weights, cache)
    card, lines = steps("ttnn", "plain", name, weights, cache)
    measured(f"{name}, {weights} weights, {cache} cache: {sum(line['seconds'] for line in lines):.0f} s; each step's distance from float32")
    ratios = {}
    for step, logits in exact.items():
        offs = [off(of[step], logits) for of in (card, twin, place)]
        ratios[step] = offs[0] / offs[1]
        measured(f"  {step:26} {len(logits):3} rows   card {offs[0]:7.3%}   twin {offs[1]:7.3%}   place-holder {offs[2]:7.3%}")
    assert max(ratios.values()) <= TWINS, ratios


@pytest.mark.parametrize("weights, cache", PRECISIONS)
@pytest.mark.parametrize("name", [GEMMA3, PHI3])
def test_a_recording_gives_the_bits_of_the_calls(steps, name, weights, cache):
    plain, _ = steps("ttnn", "plain", name, weights, cache)
    traced, _ = steps("ttnn", "trace", name, weights, cache)
    for step, logits in plain.items():
        np.testing.assert_array_equal(traced[step], logits, err_msg=step)


def test_rows_of_a_fork_leave_its_sibling_as_it_was(steps):
    # "a second turn" goes on behind the forks: its rows are near float32 only if the sibling's pages were left alone; and the fork's own rows differ.
    exact, _ = steps("float32", "plain", GEMMA3, *PRECISIONS[0])
    card, _ = steps("ttnn", "plain", GEMMA3, *PRECISIONS[0])
    fork, sibling = card["a fork and its sibling"][0::2], card["a fork and its sibling"][1::2]
    assert spread(fork - sibling) > 10 * spread(sibling - exact["a fork and its sibling"][1::2])

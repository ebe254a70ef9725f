"""Without a simulator: every kernel of the programs that two-layer models make is really compiled, on a mock card. A build that fails is an error."""
import shutil

import pytest
import runtime_root
import simulated_card

GEMMA3, PHI3 = "small-gemma3-window-16", "small-phi3-longrope-128"


@pytest.mark.parametrize("name, weights, how", [
    (GEMMA3, "bfloat8_b", "short"), (PHI3, "bfloat8_b", "short"),
    *(pytest.param(name, weights, "plain", marks=pytest.mark.slow) for name in (GEMMA3, PHI3) for weights in ("bfloat8_b", "bfloat16"))])
def test_compile(compiled, tmp_path, measured, name, weights, how):
    lines, wrong = compiled.run("models.py", name, weights, weights, "ttnn", how, tmp_path / "logits.npz", timeout=900)
    assert wrong is None, f"after {lines[-1:]}: {wrong}"
    kernels = list((simulated_card.kept_home(runtime_root.package()) / "kernels").rglob("*.elf"))
    measured(f"{name}, {weights}, {how}: {sum(line['seconds'] for line in lines):.0f} s; {len(kernels)} programs of cores are kept, compiled here or before")
    assert len(kernels) > 100


def test_a_build_that_fails_is_an_error(compiled, tmp_path):
    spoiled = tmp_path / "compiler"
    shutil.copytree(simulated_card.COMPILER, spoiled)
    header = spoiled / "sfpi.h"
    header.write_text(header.read_text().replace("sfpi_inline vInt exexp(", "sfpi_inline vInt no_exexp("))
    simulated_card.compile_objects(runtime_root.make(tmp_path / "root", spoiled), runtime_root.package())
    _, wrong = compiled.run("ops.py", "tiny", "mul with SILU", timeout=300, TT_METAL_RUNTIME_ROOT=str(tmp_path / "root"),
                            TT_METAL_CACHE=str(tmp_path / "kernels"))
    assert wrong and "exexp" in wrong

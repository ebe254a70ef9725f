"""What the simulator has not, by the smallest input that shows it."""
import pytest

pytestmark = pytest.mark.simulator


def test_takes_no_dummy_unpack(simulated, tmp_path, measured):
    """TTNN goes round the card's erratum TEN-3868 by an UNPACR that ttsim 1.10.0 refuses. The kernel compiler leaves it out; here it does not."""
    lines, wrong = simulated.run("ops.py", "tiny", "linear of 128, bfloat16", timeout=300, TESSERA_KEEP_TEN3868="1", TT_METAL_CACHE=str(tmp_path / "kernels"))
    if wrong is None:
        measured("this simulator takes the way round TEN-3868: compiler/riscv-tt-elf-g++ need not leave it out any more")
    else:
        assert "unpack" in wrong.lower(), wrong

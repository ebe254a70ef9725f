"""Op by op: the simulated card beside the cpu in its card mode, by `tessera compare`."""
import json
import os
from pathlib import Path

import pytest
from tiny_models import folders

pytestmark = pytest.mark.simulator

ANOTHER_ORDER = ("qkv_proj", "heads.q", "heads.k", "rotary_embedding.q", "rotary_embedding.k")  # of heads of 96 the card keeps a rotation's pairs together
BUILD = Path(__file__).resolve().parents[3] / os.environ["TESSERA_BUILD"]


@pytest.mark.parametrize("name", ["small-gemma3-window-16", "small-phi3-longrope-128"])
def test_no_op_parts_from_the_twin(simulated, tmp_path, measured, name):
    prompt, out = tmp_path / "prompt.json", tmp_path / "compared.json"
    prompt.write_text(json.dumps([(37 * i) % 200 + 1 for i in range(40)]))
    _, wrong = simulated.run("tessera", "compare", "-m", folders() / name, "--ids-file", prompt, "--weights", "bfloat8_b", "--device", "cpu", "--twin", "card",
                             "--device-b", "n150", "--json", out, timeout=600, PYTHONPATH=str(BUILD / "python"))
    assert wrong is None
    ops = [op for op in json.loads(out.read_text())["ops"] if "phi3" not in name or not op["name"].endswith(ANOTHER_ORDER)]
    for op in ops:
        measured(f"{name}: {op['name']:36} apart {op['relative_error']:8.5f}   PCC {op['pcc']:.6f}")
    assert len(ops) > 25 and min(op["pcc"] for op in ops) > 0.999

